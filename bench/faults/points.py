"""Where the controller is killed: at every boundary of a scenario, and while a script of ours runs on a node."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.faults.case import Fault, Scenario, Stage, kill
from bench.faults.controller import Boundary

NAME = "controller killed (SIGKILL)"
#: Kills while a step's script runs, and while a shorter one of ours does.
_INSIDE, _INSIDE_SHORT = 16, 4
#: Seconds after which the node takes back what nobody confirms, at least: it is waited for at each point.
_UNDO_AFTER = 6
#: Seconds in which what the timer starts has ended, on a busy machine.
_UNDONE = 20

#: Kinds of boundaries, as the table has them, by what their names hold; the first that fits.
_KINDS = (
    (re.compile(r" step .* \d+/\d+$"), "while the node is changed"),
    (re.compile(r" \d+/\d+$"), "while the node locks, confirms or takes back"),
    (re.compile(r" step "), "around a change"),
    (re.compile(r" confirm"), "around the confirmation"),
    (re.compile(r" take back"), "around the way back"),
    (re.compile(r" lock "), "around the lock"),
    (re.compile(r"operation \d+ "), "between operations"),
    (re.compile(r" connect "), "while connecting"),
    (re.compile(r" (ask|read|do|put) "), "while reading or asking"),
)
#: Where the node is changed, and one look more is worth its time.
_TWICE = ("around a change", "around the confirmation", "around the way back")


def kind(point: str) -> str:
    """The row of the table that a boundary belongs to."""
    return next(name for pattern, name in _KINDS if pattern.search(point))


@dataclass(frozen=True)
class _Later:
    """SIGKILL some milliseconds after the boundary; the node goes on meanwhile."""

    milliseconds: int

    def __call__(self, stage: Stage) -> None:
        time.sleep(self.milliseconds / 1000)
        stage.kill()


def kills(scenario: Scenario, boundaries: Sequence[Boundary]) -> list[Fault]:
    """One kill for each boundary of a run without a fault, and some inside; those first at which the node changes."""
    began = {each["name"]: each["time"] for each in boundaries}
    undo_after = max(_UNDO_AFTER, round(2.5 * _span(boundaries)))

    def fault(at: str, point: str, act: Callable[[Stage], None]) -> Fault:
        return Fault(
            scenario,
            NAME,
            point,
            at=at,
            act=act,
            codes=(-9,),
            undo_after=undo_after,
            rest=undo_after + _UNDONE,
            twice=kind(point) in _TWICE,
            kind=kind(point),
        )

    found = [fault(name, name, kill) for name in began]
    for name, time_ in began.items():
        what = name.removesuffix(" running")
        short = re.search(r" (lock \w+|confirm|take back)$", what)
        if what == name or not (short or " step " in what):
            continue
        took = began.get(f"{what} answered", time_) - time_
        number = _INSIDE_SHORT if short else _INSIDE
        for turn in range(1, number + 1):
            milliseconds = round(1000 * took * turn / (number + 1))
            found.append(fault(name, f"{what} {turn}/{number + 1}", _Later(milliseconds)))
    return sorted(found, key=lambda each: _rank(each.point, scenario))


def _span(boundaries: Sequence[Boundary]) -> float:
    """Seconds from the first change to its confirmation, on the node on which that takes longest."""
    longest = 0.0
    for node in {each["name"].split()[0] for each in boundaries if " step " in each["name"]}:
        times = [
            each["time"]
            for each in boundaries
            if re.match(rf"{node} (step .* sent|step .* running|confirm)", each["name"])
        ]
        longest = max(longest, max(times) - min(times))
    return longest


def _rank(point: str, scenario: Scenario) -> int:
    """0 where the node changes, 3 where nothing of it can be seen."""
    if re.search(r" (step|confirm|take back|lock) ?", point):
        return 0
    if not point.startswith("operation") and point.split()[0] not in scenario.nodes:
        return 3
    return 1 if "operation" in point else 2
