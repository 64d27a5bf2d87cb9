"""Runs one command inside a virtual machine through its guest agent (qemu-ga(8)), as nsenter(1) does in a container.

    python3 agent.py SOCKET COMMAND [ARGUMENT...]

Standard input goes to the command if it is not a terminal; its output and exit code come back. The way leads over a
virtio-serial port, so it works whatever state the guest's network is in. A program of its own, not a module: what
starts it only knows that it is the beginning of a command line.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import random
import socket
import sys
import time
from pathlib import Path
from typing import Any

_ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]

# The agent answers at once, but an emulated machine on a busy one is slow.
_ANSWER_TIMEOUT = 20.0
_DELIMITER = b"\xff"


class AgentError(Exception):
    """The agent did not answer, or refused; one sentence."""


def ask(path: str, command: str, arguments: dict[str, Any]) -> Any:
    """Send one command to the agent behind the socket `path` and return its answer. Raises AgentError, OSError."""
    with socket.socket(socket.AF_UNIX) as link, Path(path + ".lock").open("w") as lock:
        # QEMU serves one client at a time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        link.settimeout(_ANSWER_TIMEOUT)
        link.connect(path)
        buffer = _synchronise(link)
        link.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while b"\n" not in buffer:
            buffer += _receive(link)
    answer = json.loads(buffer.partition(b"\n")[0])
    if "error" in answer:
        raise AgentError(answer["error"].get("desc", str(answer["error"])))
    return answer["return"]


def run(path: str, argv: list[str], stdin: bytes | None) -> tuple[int, bytes, bytes]:
    """Run `argv` as root in the guest and wait for its end; returns exit code, output, errors. Raises AgentError."""
    arguments: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "env": _ENVIRONMENT, "capture-output": True}
    if stdin is not None:
        arguments["input-data"] = base64.b64encode(stdin).decode()
    pid = ask(path, "guest-exec", arguments)["pid"]
    pause = 0.005
    while True:
        status = ask(path, "guest-exec-status", {"pid": pid})
        if status["exited"]:
            break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
    code = status["exitcode"] if "exitcode" in status else 128 + status.get("signal", 0)
    return code, base64.b64decode(status.get("out-data", "")), base64.b64decode(status.get("err-data", ""))


def main(argv: list[str]) -> int:
    """Run the command; 127 if it could not be started, 125 if the agent is not there."""
    path, command = argv[0], argv[1:]
    stdin = None if sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        code, output, errors = run(path, command, stdin)
    except AgentError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return 127
    except (OSError, ValueError) as error:
        print(f"the guest agent behind {path} does not answer: {error}", file=sys.stderr)
        return 125
    sys.stdout.buffer.write(output)
    sys.stderr.buffer.write(errors)
    return code


def _synchronise(link: socket.socket) -> bytes:
    """Drop what an earlier client has left behind (qemu-ga's guest-sync-delimited); returns what came after."""
    number = random.SystemRandom().randrange(1, 1 << 31)
    request = json.dumps({"execute": "guest-sync-delimited", "arguments": {"id": number}})
    link.sendall(_DELIMITER + request.encode() + b"\n")
    buffer = b""
    wanted = _DELIMITER + json.dumps({"return": number}).encode() + b"\n"
    while wanted not in buffer:
        buffer += _receive(link)
    return buffer.partition(wanted)[2]


def _receive(link: socket.socket) -> bytes:
    data = link.recv(1 << 20)
    if not data:
        raise OSError("connection closed")
    return data


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # No interpreter shutdown: a command costs its start already.
    os._exit(code)
