"""The way to the node is cut, or the node is booted, while it is being changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from bench.faults.case import Fault, Stage
from bench.faults.moments import Condition, Moment, armed, begun, held, later, proven, restarted, undone, when, written
from bench.faults.scenarios import EXCEPT_LO, GUARDS, UNDO
from facts.connecting import SILENT
from lab import host, network

#: Moments of a repair, in the words of the table.
_OF_A_REPAIR: tuple[tuple[Moment, str], ...] = (
    (held, "once the node is held"),
    (begun, "before the change"),
    (armed, "as the change begins"),
    (written, "in the middle of the change"),
    (restarted, "before the proof"),
    (proven, "after the proof"),
)


def _reset(moment: Moment) -> Condition:
    """The node's sshd closes the connection: every session of the account is killed."""
    return lambda stage: when(stage.node, moment, lambda: _kill_sessions(stage))


def _kill_sessions(stage: Stage) -> None:
    stage.node.run(["pkill", "-KILL", "-u", "ops", "-x", "sshd"], check=False)


def _reload_and_reset(stage: Stage) -> AbstractContextManager[None]:
    """Somebody installs a package, after which systemd reads every unit anew; then the connection is gone."""

    def both() -> None:
        stage.node.run(["systemctl", "daemon-reload"])
        _kill_sessions(stage)

    return when(stage.node, restarted, both)


@contextmanager
def _cable_out(stage: Stage, moment: Moment, seconds: float | None) -> Iterator[None]:
    """Nothing comes from the node or to it over the management link, and nobody says so.

    + seconds: after which it is back; None for pyinfra's end
    """

    def pull() -> None:
        plug(stage, False)
        start()

    try:
        with later(seconds, lambda: plug(stage, True)) as start, when(stage.node, moment, pull):
            yield
    finally:
        plug(stage, True)


def plug(stage: Stage, into: bool) -> None:
    """The node's management link is plugged into the lab's switch, or out of it: neither end loses its carrier."""
    port = f"mgmt-{stage.name}"
    where = ["master", "br-mgmt"] if into else ["nomaster"]
    host.run([*network.enter(network.LAN), "ip", "link", "set", port, *where])


@contextmanager
def _power_cut(stage: Stage, moment: Moment) -> Iterator[None]:
    """The node goes without a word, and boots."""

    def cut() -> None:
        plug(stage, False)
        try:
            stage.lab.reboot(stage.name)
        finally:
            plug(stage, True)

    with when(stage.node, moment, cut):
        yield


_fault = partial(Fault, undo_after=20)


def faults() -> list[Fault]:
    """Connections that are reset, cables that are out for a while or for good, boots."""
    found: list[Fault] = []
    for moment, point in _OF_A_REPAIR:
        codes = (0, 1) if moment is proven else (1,)
        found.append(_fault(EXCEPT_LO, "SSH connection reset", point, _reset(moment), codes))
        found.append(_fault(EXCEPT_LO, "power cut, and booted", point, _booted(moment), codes))
    for moment, point in _OF_A_REPAIR[:-1]:
        name = f"cable out until pyinfra gives up ({SILENT} s)"
        found.append(_fault(EXCEPT_LO, name, point, _out(moment, None), (1,), keeps_lock=True))
    for moment, point in ((armed, "as the change begins"), (restarted, "before the proof")):
        found.append(_fault(EXCEPT_LO, "cable out for 10 s", point, _out(moment, 10), (0,)))
    return [
        *found,
        _fault(
            EXCEPT_LO,
            "daemon-reload, and SSH connection reset",
            "before the proof",
            _reload_and_reset,
            (1,),
            outcomes=("old",),
        ),
        _fault(UNDO, "SSH connection reset", "once it is undone", _reset(undone), (0, 1)),
        _fault(UNDO, "power cut, and booted", "once it is undone", _booted(undone), (0, 1)),
        _fault(GUARDS, "SSH connection reset", "once the node is held", _reset(held), (1,)),
    ]


def _booted(moment: Moment) -> Condition:
    return lambda stage: _power_cut(stage, moment)


def _out(moment: Moment, seconds: float | None) -> Condition:
    return lambda stage: _cable_out(stage, moment, seconds)
