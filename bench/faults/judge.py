"""Whether a node is worse off than before, now that it is at rest.

Worse is: somebody is not answered who was; a file, the rules of a backend or a setting is neither what it was nor what
an undisturbed run makes of it; a timer, unit, process, temporary file or held lock of ours is left, or a step that
nobody has confirmed and nothing takes back; the node's lock says more than `operations.lock.TTL` seconds.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.faults.case import Outcome
from bench.faults.look import Look, activity, look
from lab.api import Lab
from lab.places import Node
from operations.lock import TTL

#: What a kind of line of look.sh says that is there, when it must not be.
_LEFT = {
    "process": "a process of ours is left",
    "held": "a lock is held",
    "waits": "a run still waits for its confirmation",
    "begun": "a file was begun and not finished",
}
#: A transient unit has its run's id in its name, as the unit for the next boot has.
_UNDOING = re.compile(r"dnsmend-undo-")
#: Seconds between two looks at a node that is not at rest.
_PAUSE = 1.0


@dataclass(frozen=True)
class Reference:
    """A scenario without a fault, by node: before it and after it."""

    old: Mapping[str, Look]
    new: Mapping[str, Look]


def outcome(old: Look, new: Look, now: Look) -> Outcome:
    """Which of the two states a node is in, by what differs between them."""
    differing = [name for name in old.state.keys() | new.state.keys() if old.state.get(name) != new.state.get(name)]
    if all(now.state.get(name) == old.state.get(name) for name in differing):
        return "old"
    if all(now.state.get(name) == new.state.get(name) for name in differing):
        return "new"
    return "between"


def worse(
    old: Look, new: Look, now: Look, allowed: Sequence[Outcome], ended: bool, unsealed: bool = False
) -> list[str]:
    """What is worse on a node at rest, in sentences; empty where nothing is.

    + old: and new: the scenario's own
    + allowed: the outcomes that are right
    + ended: whether pyinfra came to its end: then its lock has to be gone
    + unsealed: whether a step that had changed nothing yet may have left its folder, as a power cut makes it
    """
    found = outcome(old, new, now)
    problems = [] if found in allowed else [f"its state is {found}"]
    problems += _unanswered(old, new, now, found)
    for name in sorted(old.state.keys() | new.state.keys() | now.state.keys()):
        if now.state.get(name) not in (old.state.get(name), new.state.get(name)):
            problems.append(f"{name} is neither as before nor as after a run without a fault")
    return [*problems, *left(old, new, now, unsealed), *_lock(now, ended)]


def is_untouched(old: Look, now: Look) -> bool:
    """Whether a node is as it was made for the scenario, with nothing of ours on it that was not there then."""
    known, found = old.having("step"), now.having("step")
    return (
        now.state == old.state
        and now.served == old.served
        and not now.having("lock", *_LEFT)
        and sorted((_step(name), state) for name, state in known.items())
        == sorted((_step(name), state) for name, state in found.items())
        and now.having("unit", "temporary").keys() == old.having("unit", "temporary").keys()
    )


def _unanswered(old: Look, new: Look, now: Look, found: Outcome) -> list[str]:
    expected = {
        "old": old.served,
        "new": new.served,
        # Some of each: those who are answered either way.
        "between": {who: old.served[who] and new.served[who] for who in old.served},
    }[found]
    return [f"{who} is not answered any more" for who, good in expected.items() if good and not now.served[who]]


def left(old: Look, new: Look, now: Look, unsealed: bool = False) -> list[str]:
    """What of ours is left on a node that should be at rest, in sentences. See `worse`."""
    problems = [
        f"{words}: {name} {value}"
        for kind, name, value in now.ours
        if (words := _LEFT.get(kind)) and not (unsealed and kind == "begun")
    ]
    for kind in ("unit", "temporary"):
        known = old.having(kind).keys() | new.having(kind).keys()
        problems += [f"left: {kind} {name}" for name in now.having(kind) if name not in known]
    known_steps = {(_step(name), state) for each in (old, new) for name, state in each.having("step").items()}
    for name, state in now.having("step").items():
        if state in ("open", *(() if unsealed else ("unsealed",))) and (_step(name), state) not in known_steps:
            problems.append(f"step {name} is {state}, and nothing takes it back")
    return problems


def _step(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


def _lock(now: Look, ended: bool) -> list[str]:
    lock = now.having("lock")
    until, up = lock.get("until", "0"), int(now.having("now")["up"])
    if until.isdigit() and int(until) <= up:
        # None, or one that has run out: it holds nobody up, and goes with the next boot or the next change.
        return []
    if ended:
        return [f"the lock of run {lock.get('run', '?')} is left, although its controller came to its end"]
    if not until.isdigit() or int(until) > up + TTL:
        return [f"the lock runs out at {until!r} seconds after the boot, and it is {up}"]
    return []


def restless(old: Look, new: Look, now: Look) -> bool:
    """Whether something on the node is still to come: an undo's timer or unit, a process of ours."""
    units = [name for name in now.having("unit") if _UNDOING.match(name)]
    return bool(units or now.having("process", "waits", "held")) or now.having("active") not in (
        old.having("active"),
        new.having("active"),
    )


def at_rest(lab: Lab, node: Node, old: Look, new: Look, patience: float) -> Look:
    """Wait until nothing of ours is at work on the node, for so many seconds at most, and look at it."""
    until = time.monotonic() + patience
    while restless(old, new, activity(node)) and time.monotonic() < until:
        time.sleep(_PAUSE)
    return look(lab, node, {who for who, good in old.served.items() if not good})


def expire_lock(node: Node) -> bool:
    """The node's lock runs out now, rather than after `operations.lock.TTL` seconds; False if there is none."""
    script = 'test -e "$1" && sed -i "s/^until .*/until 0/" "$1"'
    return node.run(["sh", "-c", script, "sh", "/run/dnsmend/lock"], check=False).returncode == 0
