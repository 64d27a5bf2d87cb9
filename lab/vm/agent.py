"""Runs one command inside a virtual machine through its guest agent (qemu-ga(8)), as nsenter(1) does in a container.

    python3 agent.py PIPES,PIPES,... COMMAND [ARGUMENT...]

Standard input goes to the command if it is not a terminal; its output and exit code come back. The way leads over a
virtio-serial port, so it works whatever state the guest's network is in. `PIPES`.in and `PIPES`.out are the machine's
end of a port, and one command has one port to itself: the first of those given that is free. A program of its own,
not a module: what starts it only knows that it is the beginning of a command line.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import random
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]

# The agent answers at once, but an emulated machine on a busy one is slow.
_ANSWER_TIMEOUT = 60.0
_FREE_PORT_TIMEOUT = 300.0
_DELIMITER = b"\xff"


class AgentError(Exception):
    """The agent refused; one sentence."""


class Agent:
    """A connection to one guest agent, over QEMU's pair of pipes. Raises OSError when it does not answer."""

    def __init__(self, path: str) -> None:
        self._in = os.open(f"{path}.in", os.O_WRONLY | os.O_NONBLOCK)
        self._out = os.open(f"{path}.out", os.O_RDONLY | os.O_NONBLOCK)
        self._buffer = b""
        # Drops what an earlier client may have left behind.
        number = random.SystemRandom().randrange(1, 1 << 31)
        self._send("guest-sync-delimited", {"id": number}, prefix=_DELIMITER)
        answer = b""
        while answer != json.dumps({"return": number}).encode():
            self._read_past(_DELIMITER)
            answer = self._read_past(b"\n")

    def do(self, command: str, arguments: dict[str, Any]) -> Any:
        """Execute one of the agent's commands and return its answer. Raises AgentError, OSError."""
        self._send(command, arguments)
        answer = json.loads(self._read_past(b"\n"))
        if "error" in answer:
            raise AgentError(answer["error"].get("desc", str(answer["error"])))
        return answer["return"]

    def run(self, argv: list[str], stdin: bytes | None) -> tuple[int, bytes, bytes]:
        """Run `argv` as root and wait for its end; returns exit code, output, errors. Raises AgentError, OSError."""
        arguments: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "env": _ENVIRONMENT, "capture-output": True}
        if stdin is not None:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = self.do("guest-exec", arguments)["pid"]
        # Each look costs the guest a little, and it notes that it was asked.
        pause = 0.02
        while not (status := self.do("guest-exec-status", {"pid": pid}))["exited"]:
            time.sleep(pause)
            pause = min(pause * 1.6, 0.3)
        code = status["exitcode"] if "exitcode" in status else 128 + status.get("signal", 0)
        return code, base64.b64decode(status.get("out-data", "")), base64.b64decode(status.get("err-data", ""))

    def _send(self, command: str, arguments: dict[str, Any], prefix: bytes = b"") -> None:
        rest = prefix + json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        while rest:
            if not select.select([], [self._in], [], _ANSWER_TIMEOUT)[1]:
                raise TimeoutError("nobody reads")
            rest = rest[os.write(self._in, rest[: select.PIPE_BUF]) :]

    def _read_past(self, end: bytes) -> bytes:
        while end not in self._buffer:
            if not select.select([self._out], [], [], _ANSWER_TIMEOUT)[0]:
                raise TimeoutError("no answer")
            data = os.read(self._out, 1 << 20)
            if not data:
                raise OSError("QEMU has ended")
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(end)
        return found


@contextmanager
def free_port(paths: list[str]) -> Iterator[str]:
    """Hold the first pair of pipes that no other command uses. Raises OSError if none becomes free."""
    deadline = time.monotonic() + _FREE_PORT_TIMEOUT
    while True:
        for path in paths:
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            try:
                yield path
            finally:
                os.close(lock)
            return
        if time.monotonic() > deadline:
            raise TimeoutError("every port is in use")
        time.sleep(0.05)


def main(argv: list[str]) -> int:
    """Run the command; 127 if it could not be started, 125 if the agent does not answer."""
    paths, command = argv[0].split(","), argv[1:]
    stdin = None if sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        with free_port(paths) as path:
            code, output, errors = Agent(path).run(command, stdin)
    except AgentError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return 127
    except (OSError, ValueError) as error:
        print(f"the guest agent behind {paths[0]} does not answer: {error}", file=sys.stderr)
        return 125
    sys.stdout.buffer.write(output)
    sys.stderr.buffer.write(errors)
    return code


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own way down: it takes as long as the command.
    os._exit(code)
