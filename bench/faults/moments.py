"""How far a run has come on a node, told from its files: nothing runs there for it, and the node is asked nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from bench.faults.case import Stage
from lab.places import Node

#: What holds while pyinfra runs, or from a moment of the run on.
Condition = Callable[[Stage], AbstractContextManager[None]]

#: Seconds between two looks: a whole change takes some 300 ms.
_EVERY = 0.002


class Progress:
    """What runs have written on a node since this was made."""

    def __init__(self, node: Node) -> None:
        self._root = node.files
        self._steps, self._timers = self._found("*/*/about"), self._found("*/timer")
        self._said = {path: path.stat().st_size for path in self._found("*/*/journal")}

    def held(self) -> bool:
        """A run holds the node."""
        return (self._root / "run/dnsmend/lock").exists()

    def begun(self) -> bool:
        """A step has its folder, and nothing of it has been changed yet."""
        return bool(self._found("*/*/about") - self._steps)

    def armed(self) -> bool:
        """What undoes the change is on the disk, and the change is about to be made."""
        return bool(self._found("*/timer") - self._timers)

    def says(self, words: str) -> bool:
        """A journal has got a line with these words."""
        for path in self._found("*/*/journal"):
            with suppress(OSError):
                text = path.read_bytes()[self._said.get(path, 0) :]
                if words.encode() in text:
                    return True
        return False

    def _found(self, pattern: str) -> set[Path]:
        return set((self._root / "var/lib/dnsmend").glob(pattern))


#: Whether a run has come so far.
Moment = Callable[[Progress], bool]


def held(progress: Progress) -> bool:
    """The run holds the node, and has changed nothing."""
    return progress.held()


def begun(progress: Progress) -> bool:
    """The step prepares what would undo it."""
    return progress.begun()


def armed(progress: Progress) -> bool:
    """The first file is about to be written."""
    return progress.armed()


def written(progress: Progress) -> bool:
    """The first file is written, the service is not restarted."""
    return progress.says(" wrote ")


def restarted(progress: Progress) -> bool:
    """The change is made, and not proven."""
    return progress.says(" restarted ")


def proven(progress: Progress) -> bool:
    """The change is confirmed."""
    return progress.says(" proven")


def undone(progress: Progress) -> bool:
    """Something has been taken back."""
    return progress.says(" undone: ")


def says(words: str) -> Moment:
    """A journal of the node says this."""
    return lambda progress: progress.says(words)


@contextmanager
def when(node: Node, moment: Moment | None, act: Callable[[], None]) -> Iterator[None]:
    """Do something as soon as a run has come so far on a node. Raises RuntimeError if it never does.

    + moment: None for at once
    + act: for a moment it runs in a thread; what it raises is raised at the end
    """
    if moment is None:
        act()
        yield
        return
    progress, ended = Progress(node), threading.Event()
    trouble: list[BaseException] = []
    done = threading.Event()

    def watch() -> None:
        try:
            while not ended.is_set():
                if moment(progress):
                    act()
                    done.set()
                    return
                time.sleep(_EVERY)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if trouble:
        raise RuntimeError(f"what was to be done has failed: {trouble[0]}") from trouble[0]
    if not done.is_set():
        raise RuntimeError("the run never came so far")


@contextmanager
def later(seconds: float | None, act: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """What starts the time after which something is done; it is not done any more at the end. None: it never is."""
    timers: list[threading.Timer] = []

    def start() -> None:
        if seconds is not None:
            timers.append(threading.Timer(seconds, act))
            timers[-1].start()

    try:
        yield start
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
