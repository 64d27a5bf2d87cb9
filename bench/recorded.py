"""What pyinfra does over SSH in this process: connections and execs, with their times in seconds since the epoch."""

from __future__ import annotations

import time
from functools import wraps
from typing import Any, TypedDict

from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import make_unix_command_for_host


class Exec(TypedDict):
    """One exec on a node.

    + script: what was to be run; line: the same as it went to the node, with sudo and its quoting
    + given: its standard input, "" for none
    + received: bytes of its output
    """

    node: str
    script: str
    line: str
    given: str
    received: int
    began: float
    ended: float


class Recording(TypedDict):
    """A run of pyinfra. `connected`: node, began, ended of each connection that was opened."""

    connected: list[tuple[str, float, float]]
    execs: list[Exec]


def record(into: Recording) -> None:
    """From now on everything that pyinfra does over SSH in this process is added to `into`."""
    run, connect = SSHConnector.run_shell_command, SSHConnector.connect

    @wraps(run)
    def recorded(self: SSHConnector, command: Any, *args: Any, **arguments: Any) -> Any:
        words = {key: value for key, value in arguments.items() if key not in _NOT_OF_THE_LINE}
        line = make_unix_command_for_host(self.state, self.host, command, **words).get_raw_value()
        began = time.time()
        succeeded, output = run(self, command, *args, **arguments)
        received = sum(len(part.line) + 1 for part in output.combined_lines)
        script = command if isinstance(command, str) else command.get_raw_value()
        stdin = arguments.get("_stdin") or ""
        into["execs"].append(
            Exec(
                node=self.host.name,
                script=script,
                line=line,
                given=stdin if isinstance(stdin, str) else "".join(f"{each}\n" for each in stdin),
                received=received,
                began=began,
                ended=time.time(),
            )
        )
        return succeeded, output

    @wraps(connect)
    def timed(self: SSHConnector) -> None:
        began = time.time()
        connect(self)
        into["connected"].append((self.host.name, began, time.time()))

    SSHConnector.run_shell_command = recorded  # type: ignore[method-assign]
    SSHConnector.connect = timed  # type: ignore[method-assign]


#: `SSHConnector.run_shell_command` takes these for itself.
_NOT_OF_THE_LINE = ("print_output", "print_input", "_get_pty", "_timeout", "_stdin", "_success_exit_codes")
