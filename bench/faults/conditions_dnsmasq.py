"""dnsmasq starts slowly, not at all or not for long, its unit is masked, and answers that come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from bench.faults.case import Fault, Stage
from bench.faults.moments import Condition, Moment, armed, restarted, when
from bench.faults.scenarios import EXCEPT_LO, UNDO
from lab import host
from lab.host import LabError

_DROP_IN = "/etc/systemd/system/dnsmasq.service.d/50-fault.conf"
#: Seconds that dnsmasq takes to start: none of its clients is answered for so long, whatever restarts it.
_SLOW = 30


@contextmanager
def _unit(stage: Stage, lines: str) -> Iterator[None]:
    """dnsmasq's unit has these lines more in [Service]."""
    stage.node.write(_DROP_IN, f"[Service]\n{lines}\n")
    stage.node.run(["systemctl", "daemon-reload"])
    try:
        yield
    finally:
        stage.node.remove(_DROP_IN)
        stage.node.run(["sh", "-c", f"rmdir {_DROP_IN.rpartition('/')[0]}; systemctl daemon-reload"])


@contextmanager
def _masked(stage: Stage, moment: Moment | None) -> Iterator[None]:
    """The unit is masked, from a moment on; None for the beginning."""

    def mask() -> None:
        stage.node.run(["systemctl", "mask", "--runtime", "dnsmasq"])

    try:
        with when(stage.node, moment, mask):
            yield
    finally:
        stage.node.run(["systemctl", "unmask", "--runtime", "dnsmasq"])


@contextmanager
def _dies(stage: Stage, after: float) -> Iterator[None]:
    """dnsmasq is gone so many seconds after it was restarted with its new files."""

    def kill() -> None:
        time.sleep(after)
        stage.node.run(["systemctl", "kill", "--signal=KILL", "dnsmasq"])

    with when(stage.node, restarted, kill):
        yield


# In a network namespace: DNS does not get in any more, or does. $1 is sport for answers, dport for questions.
_SHUT = r"""
nft add table inet fault
nft add chain inet fault in '{ type filter hook input priority 0; }'
nft add rule inet fault in meta l4proto '{ tcp, udp }' th "$1" 53 drop
"""
_OPEN = "nft delete table inet fault 2>/dev/null || true"


@contextmanager
def _flapping(stage: Stage, entry: Sequence[str], what: str, seconds: float) -> Iterator[None]:
    """DNS comes and goes, from the change on: so many seconds each.

    + entry: leads into a network namespace; what: does not get into it: "sport" for answers, "dport" for questions
    """
    over = threading.Event()
    trouble: list[LabError] = []

    def toggle() -> None:
        shut = False
        try:
            while not over.wait(seconds):
                host.run([*entry, "sh", "-ec", _OPEN if shut else _SHUT, "sh", what])
                shut = not shut
        except LabError as error:
            trouble.append(error)

    flapping = threading.Thread(target=toggle, daemon=True)
    try:
        with when(stage.node, restarted, flapping.start):
            yield
    finally:
        over.set()
        if flapping.is_alive():
            flapping.join()
        host.run([*entry, "sh", "-c", _OPEN])
    if trouble:
        raise RuntimeError(str(trouble[0]))


def _pod(seconds: float) -> Condition:
    """Answers to the pod."""

    def condition(stage: Stage) -> AbstractContextManager[None]:
        namespace = stage.node.plan.pod("client").namespace
        return _flapping(stage, [*stage.node.entry, "nsenter", f"--net={namespace}"], "sport", seconds)

    return condition


def _upstream(stage: Stage) -> AbstractContextManager[None]:
    """Questions to the resolvers that dnsmasq asks."""
    outside = stage.lab.bare_metal.leaders[0].pid
    return _flapping(stage, ["nsenter", f"--target={outside}", "--mount", "--net", "--root", "--wd"], "dport", 1.0)


_fault = partial(Fault, undo_after=30, rest=90)


def faults() -> list[Fault]:
    """A service that does not do what systemctl says of it."""
    # Only with the new files: what never starts again is lost with any restart.
    new_files = "! test -e /etc/dnsmasq.d/dnsmend.conf"
    return [
        _fault(
            EXCEPT_LO,
            f"dnsmasq takes {_SLOW} s to start",
            "all the time",
            _with(f"ExecStartPre=/bin/sleep {_SLOW}"),
            (0,),
            undo_after=60,
        ),
        _fault(
            EXCEPT_LO,
            f"dnsmasq takes {_SLOW} s to start, undone after 15 s",
            "all the time",
            _with(f"ExecStartPre=/bin/sleep {_SLOW}"),
            (1,),
            undo_after=15,
            outcomes=("old",),
        ),
        _fault(
            EXCEPT_LO,
            "dnsmasq does not start with the new files",
            "all the time",
            _with(f"ExecStartPre=/bin/sh -c '{new_files}'"),
            (1,),
            outcomes=("old",),
        ),
        _fault(
            EXCEPT_LO,
            "dnsmasq hangs as it starts with the new files",
            "all the time",
            _with(f"TimeoutStartSec=10\nExecStartPre=/bin/sh -c '{new_files} || sleep 600'"),
            (1,),
            outcomes=("old",),
        ),
        _fault(
            EXCEPT_LO,
            "dnsmasq dies",
            "at once after the change",
            lambda stage: _dies(stage, 0),
            (1,),
            outcomes=("old",),
        ),
        _fault(
            EXCEPT_LO, "dnsmasq dies", "1 s after the change", lambda stage: _dies(stage, 1), (1,), outcomes=("old",)
        ),
        _fault(
            EXCEPT_LO, "dnsmasq dies", "3 s after the change", lambda stage: _dies(stage, 3), (1,), outcomes=("old",)
        ),
        _fault(
            EXCEPT_LO,
            "dnsmasq's unit is masked",
            "from the beginning",
            lambda stage: _masked(stage, None),
            (1,),
            outcomes=("old",),
        ),
        _fault(
            EXCEPT_LO,
            "dnsmasq's unit is masked",
            "as the change begins",
            lambda stage: _masked(stage, armed),
            (1,),
            outcomes=("old",),
        ),
        _fault(UNDO, "dnsmasq's unit is masked", "from the beginning", lambda stage: _masked(stage, None), (1,)),
        _fault(EXCEPT_LO, "answers to the pod come and go, 1 s each", "from the change on", _pod(1.0), (0, 1)),
        _fault(
            EXCEPT_LO,
            "answers to the pod come and go, 0.1 s each",
            "from the change on",
            _pod(0.1),
            (1,),
            outcomes=("old",),
        ),
        _fault(EXCEPT_LO, "answers of its upstreams come and go, 1 s each", "from the change on", _upstream, (0, 1)),
    ]


def _with(lines: str) -> Condition:
    return lambda stage: _unit(stage, lines)
