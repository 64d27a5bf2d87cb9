"""pyinfra's command line, which tells each boundary that it comes to and stands still at one of them.

    python -m bench.faults.launch --tell FD --wait FD --at NAME -- ARGUMENT...

One JSON object a line goes to the file descriptor of --tell (`bench.faults.controller.Boundary`). At the boundary of
--at the whole process waits until the other end of --wait is closed: no greenlet runs, and no byte comes or goes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

# First: it patches sockets and threads, which everything after it has to find patched.
from pyinfra_cli.main import main as pyinfra

# isort: split
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.connectors import ssh
from pyinfra.connectors.sshuserclient.client import SSHClient

from deploys import policy_rules

#: What tells a command's kind, in this order.
_KINDS = (
    (re.compile(r"# dnsmend: the lock of this node\..* - (take|renew|release)$", re.DOTALL), "lock {}"),
    (re.compile(r"# dnsmend, run \S+, step ([\w-]+)\."), "step {}"),
    (re.compile(r"run\.sh\W+confirm|/run\.sh$", re.DOTALL), "confirm"),
    (re.compile(r"/run\.sh'? (all|each|plan)\b"), "take back"),
    (re.compile(r"@dns probes"), "ask"),
)
#: Kinds that come again and again: always numbered.
_MANY = ("read", "ask", "do", "put")

_exec: ContextVar[str] = ContextVar("exec", default="")
_given: ContextVar[bool] = ContextVar("given", default=False)
_of_operation: ContextVar[bool] = ContextVar("of_operation", default=False)


class Boundaries:
    """Tells them, in their order."""

    def __init__(self, tell: int, wait: int, at: str) -> None:
        self.tell, self.waiting, self.at = tell, wait, at
        self.seen: Counter[str] = Counter()
        self.operation, self.operations = "", 0

    def pass_by(self, name: str) -> None:
        """Tell this one, and stand still if it is the one."""
        line = json.dumps({"name": name, "operation": self.operation, "time": time.monotonic()}) + "\n"
        os.write(self.tell, line.encode())
        if name == self.at:
            # Not a greenlet's wait: the process itself.
            os.read(self.waiting, 1)

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Tell what comes before something, and after it if it is answered."""
        self.pass_by(f"{name} before")
        yield
        self.pass_by(f"{name} answered")

    def kind(self, node: str, script: str) -> str:
        """The name of an exec that begins: "node-0 read 3"."""
        kind = "do" if _of_operation.get() else "read"
        for pattern, name in _KINDS:
            if found := pattern.search(script):
                kind = name.format(*found.groups())
                break
        return self.counted(f"{node} {kind}", kind in _MANY)

    def counted(self, name: str, always: bool) -> str:
        """The same with its number, which a first one that is usually alone does not need."""
        self.seen[name] += 1
        return f"{name} {self.seen[name]}" if always or self.seen[name] > 1 else name


def watch(boundaries: Boundaries) -> None:
    """From now on pyinfra tells its boundaries in this process."""
    ways: Any = ssh
    connector, client, command_of, host, state = _untyped(ssh.SSHConnector, SSHClient, StringCommand, Host, State)
    run, put, sending = connector.run_shell_command, connector.put_file, client.exec_command
    reading, execute, connecting = ways.read_output_buffers, command_of.execute, host.connect
    trigger = state.trigger_callbacks

    @wraps(run)
    def run_shell_command(self: Any, command: Any, *args: Any, **arguments: Any) -> Any:
        script = command if isinstance(command, str) else command.get_raw_value()
        name = boundaries.kind(self.host.name, script)
        with boundaries.around(name):
            _exec.set(name)
            _given.set(bool(arguments.get("_stdin")))
            return run(self, command, *args, **arguments)

    @wraps(put)
    def put_file(self: Any, *args: Any, **arguments: Any) -> Any:
        with boundaries.around(boundaries.counted(f"{self.host.name} put", True)):
            return put(self, *args, **arguments)

    @wraps(sending)
    def exec_command(self: Any, *args: Any, **arguments: Any) -> Any:
        opened = sending(self, *args, **arguments)
        # Without an input to come it is the same moment as the next one.
        if _given.get():
            boundaries.pass_by(f"{_exec.get()} sent")
        return opened

    @wraps(reading)
    def read_output_buffers(*args: Any, **arguments: Any) -> Any:
        boundaries.pass_by(f"{_exec.get()} running")
        return reading(*args, **arguments)

    @wraps(execute)
    def execute_command(self: Any, *args: Any, **arguments: Any) -> Any:
        token = _of_operation.set(True)
        try:
            return execute(self, *args, **arguments)
        finally:
            _of_operation.reset(token)

    @wraps(connecting)
    def connect(self: Any, *args: Any, **arguments: Any) -> Any:
        if self.connected:
            return connecting(self, *args, **arguments)
        with boundaries.around(boundaries.counted(f"{self.name} connect", False)):
            return connecting(self, *args, **arguments)

    @wraps(trigger)
    def trigger_callbacks(self: Any, event: str, *args: Any, **arguments: Any) -> None:
        trigger(self, event, *args, **arguments)
        if event == "operation_start":
            boundaries.operations += 1
            boundaries.operation = next(iter(self.op_meta[args[0]].names))
            boundaries.pass_by(f"operation {boundaries.operations} begins")
        elif event == "operation_host_success":
            boundaries.pass_by(f"{args[0].name} operation {boundaries.operations} done")
        elif event == "operation_end":
            boundaries.pass_by(f"operation {boundaries.operations} over")
            boundaries.operation = ""

    connector.run_shell_command, connector.put_file = run_shell_command, put_file
    client.exec_command, ways.read_output_buffers = exec_command, read_output_buffers
    command_of.execute, host.connect, state.trigger_callbacks = execute_command, connect, trigger_callbacks


def _untyped(*classes: Any) -> tuple[Any, ...]:
    return classes


def main() -> None:
    """Run pyinfra."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults.launch", description=__doc__.split("\n")[0])
    parser.add_argument("--tell", type=int, required=True, metavar="FD")
    parser.add_argument("--wait", type=int, required=True, metavar="FD")
    parser.add_argument("--at", default="", metavar="NAME")
    parser.add_argument("arguments", nargs="+", metavar="ARGUMENT")
    wanted = parser.parse_args()
    sys.argv[1:] = wanted.arguments
    # A node that goes back by itself is waited for: sooner than anybody would want it on a node that carries traffic.
    policy_rules.RULES["undo_after"] = lambda value: ""
    watch(Boundaries(wanted.tell, wanted.wait, wanted.at))
    pyinfra()


if __name__ == "__main__":
    main()
