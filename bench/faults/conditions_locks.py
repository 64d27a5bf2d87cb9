"""Somebody else holds what the change needs: dpkg's lock, that of xtables, or the node's own one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from subprocess import PIPE, Popen

from bench.faults.case import Fault, Stage
from bench.faults.moments import Condition, Moment, later, says, when
from bench.faults.scenarios import BACKEND, EXCEPT_LO, UNDO
from operations.lock import script

# Holds files until its standard input ends: with fcntl(2), as dpkg does, or with flock(2).
_HOLDER = """
import fcntl, sys
how = {"fcntl": fcntl.lockf, "flock": fcntl.flock}[sys.argv[1]]
files = [open(path, "a") for path in sys.argv[2:]]
for file in files:
    how(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
_DPKG = ("fcntl", "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
_XTABLES = ("flock", "/run/xtables.lock")
_NODE = ("flock", "/run/dnsmend.lock")


@contextmanager
def _holding(stage: Stage, lock: tuple[str, ...], seconds: float | None, moment: Moment | None) -> Iterator[None]:
    """A process of the node holds these files.

    + seconds: for so long; None until pyinfra's end
    + moment: from when on; None for the beginning
    """
    holders: list[Popen[str]] = []

    def let_go() -> None:
        for each in holders:
            if each.stdin and not each.stdin.closed:
                each.communicate(timeout=30)

    def hold() -> None:
        argv = [*stage.node.entry, "python3", "-IBS", "-c", _HOLDER, *lock]
        holders.append(Popen(argv, stdin=PIPE, stdout=PIPE, text=True))
        out = holders[0].stdout
        if out is None or out.readline() != "held\n":
            raise RuntimeError(f"{lock[1]} could not be held")
        start()

    try:
        with later(seconds, let_go) as start, when(stage.node, moment, hold):
            yield
    finally:
        let_go()


@contextmanager
def _held_by_somebody(stage: Stage, ttl: int) -> Iterator[None]:
    """The node is held by a run whose controller has died, for so many seconds more."""
    dead = "20200101T000000Z-dead"
    stage.node.run(["sh", "-c", script(dead, by="ann@laptop, process 7", ttl=ttl), "-", "take"])
    try:
        yield
    finally:
        stage.node.run(["sh", "-c", script(dead), "-", "release"])


_fault = partial(Fault, undo_after=30)


def faults() -> list[Fault]:
    """Locks that are held for shorter and for longer than a run waits."""
    found = [
        _fault(scenario, "dpkg's lock held", "all the time", _held(_DPKG, None), (0,))
        for scenario in (EXCEPT_LO, BACKEND)
    ]
    # remove-rules.sh.j2 waits three times 5 s.
    found += [
        _fault(
            BACKEND, "xtables lock held for 8 s", "once iptables is another one", _held(_XTABLES, 8, says(" -> ")), (0,)
        ),
        _fault(BACKEND, "xtables lock held", "all the time", _held(_XTABLES, None), (1,)),
        # step.sh.j2 waits 10 s, lock.sh.j2 30 s.
        _fault(EXCEPT_LO, "another change under way for 5 s", "from the beginning", _held(_NODE, 5), (0,)),
        _fault(EXCEPT_LO, "another change under way", "all the time", _held(_NODE, None), (1,)),
        _fault(UNDO, "another change under way", "all the time", _held(_NODE, None), (1,)),
        _fault(
            EXCEPT_LO,
            "a dead controller's lock, good for 600 s",
            "all the time",
            lambda stage: _held_by_somebody(stage, 600),
            (1,),
            refused=r"run \S+-dead of ann@laptop, process 7 holds this node since",
        ),
        _fault(
            EXCEPT_LO,
            "a dead controller's lock that has run out",
            "all the time",
            lambda stage: _held_by_somebody(stage, 0),
            (0,),
            refused=r"the lock of run \S+-dead of ann@laptop, process 7 had run out",
        ),
    ]
    return found


def _held(lock: tuple[str, ...], seconds: float | None, moment: Moment | None = None) -> Condition:
    return lambda stage: _holding(stage, lock, seconds, moment)
