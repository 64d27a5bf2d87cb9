"""Inject each fault of the lab that is up, diagnose as a user would, heal, and count the verdicts that were right.

    python -m bench.confusion                                  # every fault of this lab until each has 5 runs
    python -m bench.confusion --runs 20 --pairs --minutes 120
    python -m bench.confusion --faults dnsmasq-except-cilium,endpoint-routes --again

What has been counted is kept in docs/confusion.json after every run, so that it can be interrupted and goes on where it
was, in another lab too; docs/confusion.md is written from it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.expected import EXPECTED, PAIRS, TOGETHER, Expected
from bench.tally import Count, load, save
from lab import faults, host
from lab.api import Lab
from lab.host import LabError

ROOT = Path(__file__).resolve().parent.parent
#: The last diagnosis that was not right, by row.
KEPT = ROOT / "runs" / "confusion"
#: Times in a row that the lab may fail to make a fault, or to heal one.
_FAILURES = 3
#: Seconds that one diagnosis may take.
_LIMIT = 600
_DIAGNOSE = ("-y", "inventory", "deploys/diagnose.py")


@dataclass(frozen=True)
class Row:
    """What is injected together: fault, mode ("" for none) and how many nodes after the first one; and in which lab."""

    injections: tuple[tuple[str, str, int], ...] = ()
    kubernetes: bool = False

    @property
    def name(self) -> str:
        """As the table has it: "dnsmasq-except-cilium wildcard + endpoint-routes (another node)"."""
        said = [
            " ".join(filter(None, (fault, mode, "(another node)" if offset else "")))
            for fault, mode, offset in self.injections
        ]
        return " + ".join(said) or ("(healthy, Kubernetes)" if self.kubernetes else "(healthy)")


def rows(kubernetes: bool, wanted: list[str], pairs: bool) -> Iterator[Row]:
    """The rows of this lab: each fault in each mode, and the pairs in the faults' first modes."""
    known: dict[str, tuple[str, ...]] = (
        dict.fromkeys(faults.CLUSTER_FAULTS, ())
        if kubernetes
        else {name: fault.modes for name, fault in faults.FAULTS.items()}
    )
    if not wanted:
        yield Row(kubernetes=kubernetes)
    for name, modes in known.items():
        if not wanted or name in wanted:
            yield from (Row(((name, mode, 0),), kubernetes) for mode in modes or ("",))
    for first, second, offset in [*((*pair, 1) for pair in PAIRS), *((*pair, 0) for pair in TOGETHER)]:
        both = {first, second}
        if pairs and both <= set(known) and (not wanted or both & set(wanted)):
            yield Row(((first, "", 0), (second, "", offset)), kubernetes)


def expected(fault: str, mode: str) -> Expected:
    """What is right for it. Raises KeyError for a fault that the table does not have."""
    return EXPECTED.get(f"{fault} {mode}", EXPECTED[fault])


def runs(row: Row, turn: int, times: int, options: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """Inject, diagnose, heal; of each diagnosis whether it was right, and what was said. Raises LabError.

    + turn: each takes the next node; times: diagnoses; options: further ones of them
    """
    lab = Lab.attach()
    names = [node.name for node in lab.nodes]
    places = [(fault, mode, names[(turn + offset) % len(names)]) for fault, mode, offset in row.injections]
    try:
        for fault, mode, node in places:
            lab.inject(fault, node, mode=mode or None)
        for _ in range(times):
            said, code = diagnose(options)
            right, words = judged(places, said, code)
            if not right:
                KEPT.mkdir(parents=True, exist_ok=True)
                (KEPT / f"{row.name.replace(' ', '_')}.json").write_text(json.dumps(said, indent=1))
            yield right, words
    finally:
        for node in dict.fromkeys(node for _, _, node in places):
            lab.heal(node)


def diagnose(options: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The diagnosis and pyinfra's exit code, as a user gets them. {} where there was none. Raises LabError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diagnosis.json"
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pyinfra", *_DIAGNOSE, *options, "--data", f"json={path}"],
                cwd=ROOT,
                env=os.environ | {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            # The machine was held up, or this program: what is no answer at all is no verdict either.
            raise LabError(f"the diagnosis did not end within {_LIMIT} s") from error
        return (json.loads(path.read_text()) if path.is_file() else {}), done.returncode


def judged(places: list[tuple[str, str, str]], said: dict[str, Any], code: int) -> tuple[bool, str]:
    """Whether these are the right verdicts and no other, and the words for the table.

    + places: fault, mode and node of each injection
    """
    if not said:
        return False, f"no diagnosis, exit code {code}"
    letters = {node: letter for letter, node in zip("AB", dict.fromkeys(node for _, _, node in places), strict=False)}
    verdicts = [(one["check"], one["culprits"]) for one in said["verdicts"]]
    words = [
        f"{check or 'hop only'} on {'+'.join(letters.get(node, 'another node') for node in nodes) or 'no node'}"
        for check, nodes in verdicts
    ]
    left = list(verdicts)
    optional: list[tuple[str, list[str]]] = []
    right = True
    for fault, mode, node in places:
        want = expected(fault, mode)
        for check in want.causes:
            right = right and (check, [node]) in left
            left = _without(left, (check, [node]))
        optional += [(check, [node]) for check in want.also]
        shown = {
            one["check"]
            for one in said["findings"]
            if one["node"] == node and one["status"] in ("warn", "fail", "unknown")
        }
        missing = set(want.findings) - shown
        right = right and not missing
        words += [f"no finding {check}" for check in sorted(missing)]
    right = right and all(verdict in optional for verdict in left)
    if bool(verdicts) > bool(code):
        return False, f"exit code {code} with {', '.join(sorted(words))}"
    return right, ", ".join(sorted(words)) or "no verdict"


def _without(verdicts: list[tuple[str, list[str]]], one: tuple[str, list[str]]) -> list[tuple[str, list[str]]]:
    place = verdicts.index(one) if one in verdicts else len(verdicts)
    return verdicts[:place] + verdicts[place + 1 :]


def main(argv: list[str] | None = None) -> int:
    """Run what is missing, those with the fewest runs first. Returns 0 if every run that was made was right."""
    parser = argparse.ArgumentParser(prog="python -m bench.confusion", description=__doc__.split("\n")[0])
    parser.add_argument("--faults", default="", metavar="A,B", help="only these, and the pairs with one of them")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="until each row has so many (default 5)")
    parser.add_argument(
        "--each", type=int, default=1, metavar="N", help="diagnoses of a fault before it is healed (default 1)"
    )
    parser.add_argument("--pairs", action="store_true", help="pairs of faults as well")
    parser.add_argument("--minutes", type=float, default=1e9, metavar="M", help="begin no run after this time")
    parser.add_argument("--again", action="store_true", help="forget what has been counted for these rows")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="K=V",
        help="for the diagnosis: probe_deadline=10 on a busy machine",
    )
    arguments = parser.parse_args(argv)
    options = [word for data in arguments.data for word in ("--data", data)]
    kubernetes = bool(Lab.attach().record.programs)
    wanted = [name for name in arguments.faults.split(",") if name]
    if unknown := sorted(set(wanted) - {*faults.FAULTS, *faults.CLUSTER_FAULTS}):
        parser.error(f"no fault {', '.join(unknown)}; `python -m lab list` prints them")
    chosen = list(rows(kubernetes, wanted, arguments.pairs))
    counted = load()
    for row in chosen:
        if arguments.again or row.name not in counted:
            counted[row.name] = Count()
    until = time.monotonic() + arguments.minutes * 60
    wrong = failures = 0
    with host.locked(host.state_dir()):
        while chosen:
            row = min(chosen, key=lambda row: counted[row.name].runs)
            count = counted[row.name]
            if count.runs >= arguments.runs or time.monotonic() > until:
                break
            times = min(arguments.each, arguments.runs - count.runs)
            try:
                for right, said in runs(row, count.runs // arguments.each, times, options):
                    count.runs += 1
                    count.right += right
                    count.said[said] += 1
                    wrong += not right
                    print(f"{'right' if right else 'WRONG'}  {row.name}: {said}", file=sys.stderr, flush=True)
                    save(counted)
                failures = 0
            except LabError as error:
                # The fault could not be made, or not healed: that is no run.
                failures += 1
                print(f"no run {row.name}: {error}", file=sys.stderr, flush=True)
                if failures > _FAILURES:
                    raise
                Lab.attach().heal()
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"confusion: {error}", file=sys.stderr)
        sys.exit(1)
