"""Which runs the nodes know, and how one of them is taken back across the fleet: the last wave first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host
from pyinfra.api.state import State

from deploys.once import once
from facts import parallel, snapshot
from facts.reading import Reading
from facts.runs import Runs, Step
from models import journal
from operations import runs
from operations.wave import Wave
from reports import plain

#: For `--data run=`: the latest one, also where it has been taken back: a second undo must not take back an older one.
LAST = "last"
_NO_RUN = "no node has a run that could be taken back"
#: How a run's id begins (`operations.runs.RUN`).
_BEGAN = re.compile(r"[0-9]{8}T[0-9]{6}Z")


@dataclass(frozen=True)
class Undoing:
    """One run that is taken back: the nodes on which there is something to do, and the waves in which it is done."""

    run: str
    nodes: tuple[str, ...]
    waves: tuple[Wave, ...]


@dataclass(frozen=True)
class Known:
    """The steps that each node keeps, by its name, and why some nodes could not say."""

    steps: dict[str, list[Step]]
    trouble: dict[str, str]


@once
def known(state: State) -> Known:
    """What the nodes of this run keep, one exec each. Nodes that are not reached are in trouble."""
    hosts = snapshot.active(state.inventory)
    readings = parallel.each(hosts, _read)
    missing = [each.name for each in state.inventory if state.is_host_in_limit(each) and each not in hosts]
    trouble = dict.fromkeys(missing, "it could not be reached")
    trouble |= {
        name: f"its runs are not known: {reading['state']}: {reading['detail']}"
        for name, reading in readings.items()
        if reading["state"] not in ("value", "empty")
    }
    return Known({name: reading["value"] for name, reading in readings.items() if name not in trouble}, trouble)


@once
def of(state: State) -> Undoing:
    """The run that `--data run=` names, as it is to be taken back. Raises PyinfraError where no node knows it."""
    hosts = snapshot.active(state.inventory)
    wanted = str(hosts[0].data.get("run", ""))
    found = known(state)
    run = next(iter(latest(found.steps)), "") if wanted == LAST else wanted
    if not run:
        raise PyinfraError(_NO_RUN)
    if not runs.is_id(run):
        raise PyinfraError(f"--data run={run!r}: is no run's id")
    path = runs.CONTROLLER_DIRECTORY / f"{run}.jsonl"
    told = journal.entries(path.read_text(errors="replace").splitlines()) if path.is_file() else []
    for name, why in found.trouble.items():
        # Of a node that the run has not come to there is nothing to say.
        if told and name not in journal.changed(told):
            continue
        logger.warning(f"{name}: {why}: what run {run} has changed there stays. Run this again once it is reached")
    having = [name for name, steps in found.steps.items() if any(step["run"] == run for step in steps)]
    if not having:
        unknown = f" ({plain.several(list(found.trouble))} could not be asked)" if found.trouble else ""
        raise PyinfraError(f"no node has run {run}{unknown}. Without --data run= the runs are listed")
    mine = {name: [step for step in found.steps[name] if step["run"] == run] for name in having}
    todo = {name: own for name, own in mine.items() if any(step["state"] != "undone" for step in own)}
    if not todo:
        logger.info(_nothing_to_do(run, found.steps))
    groups = order(todo, journal.waves(told))
    waves = tuple(Wave(number, len(groups), tuple(group)) for number, group in enumerate(groups, 1))
    return Undoing(run, tuple(todo), waves)


def latest(steps: Mapping[str, Sequence[Step]]) -> list[str]:
    """The runs, the latest first."""
    times: dict[str, int] = {}
    for step in (step for own in steps.values() for step in own):
        times[step["run"]] = max(step["time"], times.get(step["run"], 0))
    return sorted(times, key=lambda run: _when(run, times[run]), reverse=True)


def _nothing_to_do(run: str, steps: Mapping[str, Sequence[Step]]) -> str:
    in_force = {step["run"] for own in steps.values() for step in own if step["state"] != "undone"}
    earlier = next((each for each in latest(steps) if each in in_force), "")
    further = f". Still in force is {earlier}: --data run={earlier} takes that back" if earlier else ""
    return f"run {run} has been taken back already on every node that knows it{further}"


def _when(run: str, time: int) -> tuple[str, int, str]:
    """For sorting runs: when its controller began it, which its id tells in UTC. A node's clock may be wrong by years.

    + time: of one of its changes, by the node: for runs of the same second, and ids that tell no time
    """
    told = _BEGAN.match(run)
    return (told[0] if told else "", time, run)


def order(steps: Mapping[str, Sequence[Step]], told: Sequence[Sequence[str]] = ()) -> list[list[str]]:
    """The nodes in the order in which the run is taken back on them: its last wave first.

    + steps: what the nodes keep of it; told: the waves of the controller's journal, which another controller has not

    A node that the journal does not name goes by the wave in its own record, and those of no wave by their time.
    """
    places = {name: number for number, wave in enumerate(told, 1) for name in wave}
    groups: dict[tuple[int, int], list[str]] = {}
    for name, own in steps.items():
        wave = places.get(name) or max((step["wave"] for step in own), default=0)
        time = 0 if wave else max((step["time"] for step in own), default=0)
        groups.setdefault((wave, time), []).append(name)
    return [groups[key] for key in sorted(groups, reverse=True)]


def listing(found: Known) -> list[str]:
    """The runs on the nodes, the latest first, a line each and one for each node; then the nodes that did not say."""
    by_run: dict[str, dict[str, list[Step]]] = {}
    for name, steps in found.steps.items():
        for step in steps:
            by_run.setdefault(step["run"], {}).setdefault(name, []).append(step)
    lines: list[str] = []
    times = {run: max(step["time"] for own in nodes.values() for step in own) for run, nodes in by_run.items()}
    for run in latest(found.steps):
        first = next(iter(by_run[run].values()))[0]
        lines.append(f"run {run}: {_age(times[run])} ago, by {plain.line(first['by'], 80) or 'somebody'}")
        for name, own in by_run[run].items():
            lines.append(f"    {name}: {', '.join(_said(step) for step in own)}")
    lines += [f"{name}: {plain.line(why)}" for name, why in found.trouble.items()]
    return lines or [_NO_RUN]


def _said(step: Step) -> str:
    if step["state"] == "undone":
        return f"{step['step']} (undone: {plain.line(step['reason'], 80)})"
    return f"{step['step']} ({'in force' if step['state'] == 'proven' else 'not confirmed'})"


def _age(time: int) -> str:
    seconds = max(0, int(datetime.now(UTC).timestamp()) - time)
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {word}"
    return f"{seconds} s"


def _read(host: Host) -> Reading[list[Step]]:
    found = get_fact(host.state, host, Runs, apply_failed_hosts=False)
    failed: Reading[list[Step]] = {"state": "failed", "value": [], "detail": "the node could not be read"}
    return cast("Reading[list[Step]]", found or failed)
