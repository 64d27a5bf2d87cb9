"""The fault suite, on the lab that is up: `make faults`, or one of these.

    python -m bench.faults                                    # what has not been played, or was worse
    python -m bench.faults --scenarios except-lo,two-waves --part 1/2 --minutes 30
    python -m bench.faults --scenarios conditions             # no kills
    python -m bench.faults --only "dnsmasq running"           # those with this in their name, again
    python -m bench.faults --list backend                     # the boundaries of a scenario
    python -m bench.faults --merge FILE                       # what another checkout has played

What has been played is kept in docs/faults.json after every point, so that it can be interrupted and goes on where it
was, in another lab too. What was seen of a point that is worse stays in runs/faults. Exit code: 1 if a point is worse.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from pathlib import Path

from bench.faults import conditions, tally
from bench.faults.case import Fault, Scenario
from bench.faults.controller import ROOT
from bench.faults.judge import Reference
from bench.faults.page import PAGE, page
from bench.faults.play import play, reference
from bench.faults.points import kills
from bench.faults.scenarios import SCENARIOS
from lab import host
from lab.api import Lab
from lab.host import LabError

_KEPT = ROOT / "runs" / "faults"
#: Times in a row that the lab may fail.
_FAILURES = 5


def main(argv: list[str] | None = None) -> int:
    """Play what is missing or was worse. Returns 1 if a point that was played, now or before, is worse."""
    arguments = _arguments(argv)
    played = tally.load()
    for other in arguments.merge:
        played |= tally.load(other)
    if arguments.merge:
        _save(played)
        return int(any(each["worse"] for each in played.values()))
    lab = Lab.attach()
    until = time.monotonic() + arguments.minutes * 60
    with host.locked(host.state_dir()):
        lab.heal()
        if arguments.list:
            for boundary in reference(lab, SCENARIOS[arguments.list], _KEPT / "reference")[1]:
                print(f"{boundary['name']:40} {boundary['operation']}")
            return 0
        bad = 0
        for scenario, faults in _scenarios(arguments).items():
            bad += _played(lab, scenario, faults, arguments, played, until)
        lab.heal()
    return int(bad > 0 or any(each["worse"] for each in played.values()))


def _scenarios(arguments: argparse.Namespace) -> dict[Scenario, list[Fault]]:
    """What is played: the scenarios, and beside their kills the conditions of each."""
    wanted = arguments.scenarios.split(",") if arguments.scenarios else [*SCENARIOS, "conditions"]
    found: dict[Scenario, list[Fault]] = {SCENARIOS[name]: [] for name in wanted if name != "conditions"}
    if "conditions" in wanted:
        for fault in conditions.faults():
            found.setdefault(fault.scenario, []).append(fault)
    return found


def _played(
    lab: Lab,
    scenario: Scenario,
    own: list[Fault],
    arguments: argparse.Namespace,
    played: dict[str, tally.Point],
    until: float,
) -> int:
    """Play what is missing of a scenario, or was worse; how many of those are worse."""
    if time.monotonic() > until:
        return 0
    known, boundaries = reference(lab, scenario, _KEPT / "reference")
    faults = [*own, *(kills(scenario, boundaries) if _is_killed(scenario, arguments) else [])]
    part, parts = arguments.part
    chosen = [
        fault
        for number, fault in enumerate(faults)
        if number % parts == part - 1
        and (arguments.only in tally.key(fault) if arguments.only else _is_missing(tally.key(fault), played))
    ]
    bad = failures = 0
    for fault in chosen:
        if time.monotonic() > until:
            break
        bad_now = _one(lab, fault, known, played)
        failures = failures + 1 if bad_now is None else 0
        if failures > _FAILURES:
            raise LabError(f"{failures} points in a row could not be played")
        bad += bool(bad_now)
    return bad


def _is_missing(name: str, played: dict[str, tally.Point]) -> bool:
    """What was worse is played again: it has been mended since, or is still worse."""
    return name not in played or bool(played[name]["worse"])


def _is_killed(scenario: Scenario, arguments: argparse.Namespace) -> bool:
    """A scenario that only conditions have is not for kills."""
    wanted = arguments.scenarios.split(",") if arguments.scenarios else SCENARIOS
    return any(SCENARIOS.get(name) is scenario for name in wanted)


def _one(lab: Lab, fault: Fault, known: Reference, played: dict[str, tally.Point]) -> bool | None:
    """Whether this one is worse; None where it could not be played."""
    name = tally.key(fault)
    folder = _KEPT / re.sub(r"[^a-z0-9]+", "-", name.lower())
    try:
        seen = play(lab, fault, known, folder)
    except (LabError, RuntimeError) as error:
        print(f"not played  {name}: {error}", file=sys.stderr, flush=True)
        return None
    states = " and ".join(dict.fromkeys(seen.outcomes.values()))
    lost = sum(seen.lost.values())
    said = f"WORSE: {'; '.join(seen.worse)}" if seen.worse else f"{states}, {lost} of {seen.asked} lost"
    print(f"{seen.seconds:.0f} s  {name}: {said}", file=sys.stderr, flush=True)
    if not seen.worse:
        shutil.rmtree(folder)
    played[name] = tally.point(fault, seen)
    _save(played)
    return bool(seen.worse)


def _save(played: dict[str, tally.Point]) -> None:
    """After each point: what is interrupted has been played all the same."""
    tally.save(played)
    PAGE.write_text(page(list(played.values())))


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 1/3")
    return int(part), int(parts)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    summary, _, more = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults",
        description=summary,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ",".join([*SCENARIOS, "conditions"])
    parser.add_argument("--scenarios", default="", metavar="A,B", help=f"only these of {names}")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="N/M", help="each M-th point: for labs side by side"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only those with this in their name, again")
    parser.add_argument("--minutes", type=float, default=1e9, metavar="M", help="begin no point after this time")
    parser.add_argument("--list", default="", choices=SCENARIOS, metavar="SCENARIO", help="print its boundaries")
    parser.add_argument("--merge", type=Path, action="append", default=[], metavar="FILE", help="another faults.json")
    arguments = parser.parse_args(argv)
    if unknown := set(filter(None, arguments.scenarios.split(","))) - {*SCENARIOS, "conditions"}:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {names}")
    return arguments


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"faults: {error}", file=sys.stderr)
        sys.exit(2)
