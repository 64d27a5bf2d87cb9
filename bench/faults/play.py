"""One fault played on the lab: prepared, disturbed, waited for, judged, run again, and healed."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from bench.collateral import running
from bench.faults import judge
from bench.faults.case import RUN, Fault, Scenario, Stage
from bench.faults.controller import Boundary, Controller, Done, run
from bench.faults.judge import Reference
from bench.faults.look import Look, look
from lab.api import Lab
from lab.host import LabError
from lab.places import Place

#: Questions a second, from each of node, pod and LAN. Few: what is judged is the state, and the machine is shared.
UDP_RATE, TCP_RATE = 10, 5
#: Seconds within which pyinfra comes to its boundary, and to its end.
_LIMIT = 300
#: Seconds that a look, and whatever the node's own timers do on a busy machine, may take beside what they wait for.
_SLACK = 30
#: pyinfra's words for a host on which an operation has changed something.
_SUCCESS = re.compile(r"\[(node-\d+)\] Success")
#: What of dnsmend is on a node and in no file that healing brings back.
_FORGET = (
    "systemctl stop 'dnsmend-*.timer' 'dnsmend-*.service' 2>/dev/null; rm -rf /var/lib/dnsmend /run/dnsmend; "
    "systemctl reset-failed 'dnsmend-*' 2>/dev/null; true"
)


@dataclass
class Played:
    """What came of a fault.

    + outcomes: by node, "old", "new" or "between"; worse: sentences, none if nothing is
    + lost: questions of those who are served before and after, by asker; they were sent `asked` times
    + again: whether the same command then ended well; None where the node was as if it had never been run
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    code: int = 0
    worse: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    again: bool | None = None
    seconds: float = 0.0


def healed(lab: Lab, names: Sequence[str]) -> None:
    """These nodes as after `up`, and nothing of dnsmend on them."""
    for name in names:
        lab.node(name).run(["sh", "-c", _FORGET])
        lab.heal(name)


def looks(lab: Lab, scenario: Scenario, known: Mapping[str, Look] | None = None) -> dict[str, Look]:
    """Every node of the scenario.

    + known: how they should be
    """
    expected = known or {}
    return {
        name: look(
            lab,
            lab.node(name),
            {who for who, good in expected[name].served.items() if not good} if name in expected else (),
        )
        for name in scenario.nodes
    }


def reference(lab: Lab, scenario: Scenario, folder: Path) -> tuple[Reference, list[Boundary]]:
    """The scenario without a fault, and its boundaries.

    Raises LabError where it does not end well, or a second run is not quiet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    healed(lab, scenario.nodes)
    scenario.prepare(lab)
    old = looks(lab, scenario)
    words = _words(lab, scenario)
    controller = Controller(words, "", folder / "reference.log")
    done = controller.wait(_LIMIT)
    if done.code:
        raise LabError(f"{scenario.name}: without a fault it ends with {done.code}:\n{done.out[-3000:]}")
    found = Reference(old, looks(lab, scenario))
    again = run(words)
    if again.code or _SUCCESS.search(again.out):
        raise LabError(f"{scenario.name}: without a fault a second run is not quiet:\n{again.out[-3000:]}")
    for name in scenario.nodes:
        if judge.outcome(old[name], found.new[name], old[name]) == judge.outcome(
            old[name], found.new[name], found.new[name]
        ):
            raise LabError(f"{scenario.name}: without a fault it changes nothing on {name}")
        if problems := judge.left(old[name], found.new[name], found.new[name]):
            raise LabError(f"{scenario.name}: without a fault: {'; '.join(problems)}")
    return found, controller.passed


def play(lab: Lab, fault: Fault, known: Reference, folder: Path) -> Played:
    """Play a fault on the lab.

    Raises LabError where the lab itself fails, and RuntimeError where the fault has not come about.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    _prepare(lab, fault.scenario, known)
    stage = Stage(lab, _words(lab, fault.scenario), folder, fault.scenario.nodes[0])
    played, touched = Played(), False
    with _load(lab, stage, known, played):
        done = _disturbed(stage, fault)
        played.code = done.code
        if done.code not in fault.codes:
            played.worse.append(f"pyinfra's exit code is {done.code}")
        played.worse += stage.problems
        if fault.refused and not re.search(fault.refused, done.out):
            played.worse.append(f"pyinfra does not say {fault.refused!r}")
        for name in fault.scenario.nodes:
            old, new = known.old[name], known.new[name]
            now = judge.at_rest(lab, lab.node(name), old, new, fault.rest + _SLACK)
            played.outcomes[name] = judge.outcome(old, new, now)
            problems = judge.worse(
                old, new, now, fault.outcomes, done.code >= 0 and not fault.keeps_lock, fault.kind == "condition"
            )
            played.worse += [f"{name}: {each}" for each in problems]
            touched = touched or not judge.is_untouched(known.old[name], now)
    if touched:
        for name in fault.scenario.nodes:
            judge.expire_lock(lab.node(name))
        problems = _again(stage, fault, known)
        played.again = not problems
        played.worse += problems
    played.seconds = round(time.monotonic() - began, 1)
    (folder / "played.json").write_text(json.dumps(vars(played), indent=1))
    return played


def _prepare(lab: Lab, scenario: Scenario, known: Reference) -> None:
    """The nodes as the scenario has them, if they are not. Raises LabError where they do not become so."""

    def differing() -> list[str]:
        seen = looks(lab, scenario, known.old)
        return [name for name, each in seen.items() if not judge.is_untouched(known.old[name], each)]

    if not differing():
        return
    healed(lab, scenario.nodes)
    scenario.prepare(lab)
    if names := differing():
        raise LabError(f"{scenario.name}: {', '.join(names)} not prepared as before the run without a fault")


def _words(lab: Lab, scenario: Scenario) -> tuple[str, ...]:
    """The scenario's words, with the run that the node knows now."""
    runs = (
        lab.node(scenario.nodes[0]).run(["sh", "-c", "ls -1 /var/lib/dnsmend 2>/dev/null | tail -n 1"]).stdout.strip()
    )
    return tuple(word.replace(f"={RUN}", f"={runs}") for word in scenario.words)


def _disturbed(stage: Stage, fault: Fault) -> Done:
    with ExitStack() as conditions:
        conditions.enter_context(fault.during(stage))
        log = stage.folder / "controller.log"
        controller = stage.controller = Controller(stage.words, fault.at, log, fault.undo_after, stage.checkout)
        try:
            if fault.at:
                if not controller.wait_halted(_LIMIT):
                    raise RuntimeError(f"it did not come to {fault.at!r}:\n{controller.wait(1).out[-2000:]}")
                fault.act(stage)
                controller.go_on()
            return controller.wait(_LIMIT)
        finally:
            controller.kill()


def _again(stage: Stage, fault: Fault, known: Reference) -> list[str]:
    """What is wrong with the same command afterwards: it has to end well, and to change nothing once more."""
    for turn in ("run again", "run again twice"):
        done = stage.pyinfra()
        (stage.folder / f"{turn.replace(' ', '-')}.log").write_text(done.out)
        changed = sorted(set(_SUCCESS.findall(done.out)))
        problems = [f"its exit code is {done.code}"] if done.code else []
        if turn == "run again twice" and changed:
            problems.append(f"it changes something on {', '.join(changed)}")
        for name in fault.scenario.nodes:
            now = judge.at_rest(stage.lab, stage.lab.node(name), known.old[name], known.new[name], _SLACK)
            problems += [
                f"{name}: {each}"
                for each in judge.worse(known.old[name], known.new[name], now, ["new"], True, not changed)
            ]
        if problems:
            return [f"{turn}: {each}" for each in problems]
        # Byte for byte it is now where an undisturbed run leads, after which another one is quiet (`reference`).
        if not changed or not fault.twice:
            break
    return []


@contextmanager
def _load(lab: Lab, stage: Stage, known: Reference, played: Played) -> Iterator[None]:
    """Questions from node, pod and LAN meanwhile; what those have lost who are served before and after, is counted."""
    node = stage.node
    places: dict[str, Place] = {"node": node, "pod": node.pod("client"), "LAN": lab.bare_metal}
    old, new = known.old[node.name].served, known.new[node.name].served
    asking = {who: "pod client" if who == "pod" else who for who in places}
    served = [
        who for who, name in asking.items() if all(each[f"{name} udp"] and each[f"{name} tcp"] for each in (old, new))
    ]
    with ExitStack() as loads:
        started: Mapping[str, Popen[str]] = {
            who: loads.enter_context(running(places[who], "ask", node.plan.vip, UDP_RATE, TCP_RATE)) for who in served
        }
        yield
        for who, process in started.items():
            out = process.communicate(timeout=30)[0]
            # One whose node was booted has told nothing.
            with contextlib.suppress(ValueError):
                samples = [each for one in json.loads(out).values() for each in one]
                played.lost[who] = sum(took is None for _, took in samples)
                played.asked += len(samples)
