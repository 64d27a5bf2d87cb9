"""pyinfra as a user starts it, and pyinfra that stops at a boundary until it is told to go on, or is killed.

It is pyinfra's own command line, in this checkout (`bench.faults.launch`): nothing in the product knows of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).resolve().parent.parent.parent
_AS_A_USER = ("-y", "inventory")
#: pyinfra prints no moving lines, and no colours.
_PLAIN = {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1", "COLUMNS": "200"}


@dataclass(frozen=True)
class Done:
    """A run that has ended: its exit code, negative for the signal that ended it, and all that it printed."""

    code: int
    out: str


class Boundary(TypedDict):
    """A moment of a controller.

    + name: see `bench.faults.case`; operation: the name of the operation under way, "" before and after all of them
    + time: seconds of the monotonic clock
    """

    name: str
    operation: str
    time: float


def run(words: tuple[str, ...], timeout: float = 300, checkout: Path = ROOT) -> Done:
    """Run pyinfra and wait for its end. Raises subprocess.TimeoutExpired."""
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", *_AS_A_USER, *words],
        cwd=checkout,
        env=os.environ | _PLAIN,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout)


class Controller:
    """A run of pyinfra that tells its boundaries and can be halted at one.

    + words: pyinfra's, after -y and the inventory
    + at: the boundary at which all of it stands still, "" for none
    + log: the file that gets what it prints
    + undo_after: the policy's key, which may be smaller here than the policy takes; 0 for what the words say
    + checkout: where it is started
    """

    def __init__(self, words: tuple[str, ...], at: str, log: Path, undo_after: int = 0, checkout: Path = ROOT) -> None:
        self.passed: list[Boundary] = []
        self._log = log
        self._halted, self._ended = threading.Event(), threading.Event()
        telling, told = os.pipe()
        waiting, self._go = os.pipe()
        own = ["--tell", str(told), "--wait", str(waiting), f"--at={at}", "--"]
        data = ["--data", f"undo_after={undo_after}"] if undo_after else []
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.faults.launch", *own, *_AS_A_USER, *words, *data],
                cwd=checkout,
                env=os.environ | _PLAIN,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(told, waiting),
            )
        os.close(told)
        os.close(waiting)
        self._reader = threading.Thread(target=self._read, args=(telling, at), daemon=True)
        self._reader.start()

    def _read(self, telling: int, at: str) -> None:
        with os.fdopen(telling) as lines:
            for line in lines:
                boundary: Boundary = json.loads(line)
                self.passed.append(boundary)
                if boundary["name"] == at:
                    self._halted.set()
        self._ended.set()
        self._halted.set()

    def wait_halted(self, timeout: float) -> bool:
        """Wait until it stands at its boundary; False if it has ended without, or not come there in time."""
        return self._halted.wait(timeout) and not self._ended.is_set()

    def go_on(self) -> None:
        """Let it go on. Once."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.alive():
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._ended.set()

    def wait(self, timeout: float = 300) -> Done:
        """Wait for its end. One that does not come to it is killed: code -9, and the last line says so."""
        late = ""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            late = f"\nnot ended within {timeout:.0f} s: killed\n"
        self.go_on()
        self._reader.join(5)
        return Done(self._process.returncode, self._log.read_text(errors="replace") + late)
