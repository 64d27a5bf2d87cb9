"""The way into a virtual machine: qemu-ga's protocol over QEMU's pipes, with an agent of the test's own behind them."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.vm import agent as program

PROGRAM = Path(program.__file__)


class Guest:
    """Answers as qemu-ga does; `seen` holds every command that it was given."""

    def __init__(self, pipes: Path) -> None:
        self.seen: list[dict[str, Any]] = []
        for end in (".in", ".out"):
            os.mkfifo(f"{pipes}{end}")
        # Both ends, as QEMU opens them: neither ever sees the other side gone.
        self._in = os.open(f"{pipes}.in", os.O_RDWR)
        self.out = os.open(f"{pipes}.out", os.O_RDWR)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        os.write(self._in, b"\n")
        self._thread.join()
        os.close(self._in)
        os.close(self.out)

    def _serve(self) -> None:
        buffer = b""
        while True:
            buffer += os.read(self._in, 1 << 16)
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                if not line:
                    return
                os.write(self.out, self._answer(json.loads(line.lstrip(b"\xff"))))

    def _answer(self, request: dict[str, Any]) -> bytes:
        command, arguments = request["execute"], request["arguments"]
        if command == "guest-sync-delimited":
            return b"\xff" + json.dumps({"return": arguments["id"]}).encode() + b"\n"
        self.seen.append(request)
        if command == "guest-exec":
            if arguments["path"] == "missing":
                return b'{"error": {"class": "GenericError", "desc": "No such file or directory"}}\n'
            return b'{"return": {"pid": 7}}\n'
        # Not yet at the first look.
        if sum(each["execute"] == command for each in self.seen) == 1:
            return b'{"return": {"exited": false}}\n'
        out, err = base64.b64encode(b"out\n").decode(), base64.b64encode(b"err\n").decode()
        return (
            json.dumps({"return": {"exited": True, "exitcode": 3, "out-data": out, "err-data": err}}).encode() + b"\n"
        )


@pytest.fixture
def pipes(tmp_path: Path) -> Path:
    return tmp_path / "agent-1"


@pytest.fixture
def guest(pipes: Path) -> Iterator[Guest]:
    found = Guest(pipes)
    yield found
    found.close()


def run(pipes: Path | str, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", "-S", str(PROGRAM), str(pipes), *command]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=20)


def test_output_errors_and_exit_code_come_back(guest: Guest, pipes: Path) -> None:
    done = run(pipes, "cat", "a b", stdin="line\n")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    given = guest.seen[0]["arguments"]
    assert (given["path"], given["arg"]) == ("cat", ["a b"])
    assert base64.b64decode(given["input-data"]) == b"line\n"


def test_what_an_earlier_client_left_behind_is_dropped(guest: Guest, pipes: Path) -> None:
    os.write(guest.out, b'{"return": {"exited": true, "exitcode": 0}}\n\xff{"return": 1}\n{"retu')
    assert run(pipes, "true").returncode == 3


def test_a_command_that_cannot_be_started(guest: Guest, pipes: Path) -> None:
    done = run(pipes, "missing")
    assert (done.returncode, done.stderr) == (127, "missing: No such file or directory\n")


def test_a_machine_that_is_gone(pipes: Path) -> None:
    done = run(pipes, "true")
    assert done.returncode == 125
    assert "does not answer" in done.stderr


def test_a_port_in_use_is_left_alone(guest: Guest, pipes: Path) -> None:
    busy = pipes.with_name("agent-0")
    with Path(f"{busy}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(f"{busy},{pipes}", "true").returncode == 3
