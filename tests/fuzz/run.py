"""Fuzz targets of `tests.fuzz.targets` with atheris, each in a process of its own: `make fuzz MINUTES=10`.

    python -m tests.fuzz.run                      # every target, 10 minutes each
    python -m tests.fuzz.run --minutes 1 answers  # one of them
    python -m tests.fuzz.run --within-minutes 60  # as many as there is time for, first those that have run least
    python -m tests.fuzz.run --again FILE answers # what a finding does

A target fails where it raises, takes more than `SLOW` seconds for one input or more than `MEMORY` MB. The input is kept
in tests/fuzz/findings; how long each has run without a finding, and when, in docs/fuzzing.json. Minutes and seconds are
processor time, so that a busy machine neither shortens a run nor makes an input slow. Exit code: 0 without a finding, 1
with one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

FINDINGS = Path(__file__).parent / "findings"
RECORD = Path(__file__).parents[2] / "docs" / "fuzzing.json"
#: Seconds for one input, seconds on the clock for one that never ends, megabytes for a process, bytes of an input.
SLOW = 20
HANGS = 900
MEMORY = 2500
LONGEST = 60_000


def main() -> int:
    """Run what was asked for, one line for each target."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__.splitlines()[0])
    options.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    options.add_argument("--minutes", type=float, default=10, help="for each target (default 10)")
    options.add_argument("--jobs", type=int, default=1, help="targets at once (default 1)")
    options.add_argument("--within-minutes", type=float, metavar="M", help="no more targets than this allows")
    options.add_argument("--again", metavar="FILE", help="run one input, and show what it does")
    options.add_argument("--within", nargs=2, metavar=("TARGET", "CORPUS"), help=argparse.SUPPRESS)
    given, rest = options.parse_known_args()
    if given.within:
        name, corpus = given.within
        return _fuzz(name, corpus, given.minutes, rest)
    from tests.fuzz.targets import TARGETS

    unknown = set(given.targets) - set(TARGETS)
    if unknown or rest:
        options.error(f"no such target: {', '.join([*sorted(unknown), *rest])}; there are {', '.join(TARGETS)}")
    names = given.targets or list(TARGETS)
    if given.again:
        for name in names:
            TARGETS[name].run(Path(given.again).read_bytes())
            print(f"{name}: nothing")
        return 0
    if given.within_minutes is not None:
        before = recorded()
        names.sort(key=lambda name: before[name]["minutes"] if name in before else 0)
        names = names[: max(1, int(given.within_minutes * given.jobs / given.minutes))]
    FINDINGS.mkdir(exist_ok=True)
    total = given.minutes * len(names) / given.jobs
    print(
        f"{len(names)} targets, {given.minutes:g} minutes each, {given.jobs} at once: {total:.0f} minutes", flush=True
    )
    with ThreadPoolExecutor(given.jobs) as pool:
        good = list(pool.map(lambda name: _apart(name, TARGETS[name].seeds, given.minutes), names))
    print(f"{sum(good)} of {len(good)} targets without a finding")
    return 0 if all(good) else 1


class Run(TypedDict):
    """What a target has stood without a finding: the longest run."""

    minutes: float
    executions: int
    day: str


def recorded() -> dict[str, Run]:
    """By target."""
    found: dict[str, Run] = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    return found


def keep(name: str, minutes: float, executions: int, found: bool) -> None:
    """Remember a run, if it was the target's longest; a finding makes all before it worthless."""
    with _keeping:
        runs = recorded()
        if found:
            runs.pop(name, None)
        elif name not in runs or minutes >= runs[name]["minutes"]:
            runs[name] = {"minutes": minutes, "executions": executions, "day": time.strftime("%Y-%m-%d")}
        RECORD.write_text(json.dumps(dict(sorted(runs.items())), indent=1) + "\n")


_keeping = threading.Lock()


def _apart(name: str, seeds: list[bytes], minutes: float) -> bool:
    """One target in a process of its own; whether it found nothing."""
    with TemporaryDirectory(prefix="dnsmend-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            (corpus / str(number)).write_bytes(seed[:LONGEST])
        command = [sys.executable, "-m", "tests.fuzz.run", "--within", name, str(corpus), "--minutes", str(minutes)]
        limits = [f"-timeout={HANGS}", f"-rss_limit_mb={MEMORY}"]
        limits += [f"-max_len={LONGEST}", f"-artifact_prefix={FINDINGS}/{name}-"]
        done = subprocess.run([*command, *limits], capture_output=True, text=True, errors="replace", check=False)
    runs = re.findall(r"^(?:#|Done )(\d+)", done.stderr, re.MULTILINE)
    executions = int(runs[-1]) if runs else 0
    said = f"{name}: {executions} runs in {minutes:g} minutes"
    keep(name, minutes, executions, found=done.returncode != 0)
    if done.returncode == 0:
        print(f"{said}: nothing", flush=True)
        return True
    shown = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("INFO:", "#"))]
    print(f"{said}: FOUND\n    " + "\n    ".join(shown[-40:]), flush=True)
    return False


def _fuzz(name: str, corpus: str, minutes: float, limits: list[str]) -> int:
    """One target in this process, until it has had its processor time. Raises TooSlow, which keeps the input."""
    import atheris

    with atheris.instrument_imports(
        include=["facts", "models", "probes", "checks", "reports", "inventories", "deploys"]
    ):
        from tests.fuzz.targets import TARGETS
    run = TARGETS[name].run
    until = time.process_time() + minutes * 60
    executions = 0

    def one(data: bytes) -> None:
        nonlocal executions
        began = time.process_time()
        run(data)
        ended = time.process_time()
        if ended - began > SLOW:
            raise TooSlow(f"{ended - began:.0f} s for an input of {len(data)} bytes")
        executions += 1
        if ended > until:
            # Atheris has no way to end it that is no finding.
            print(f"Done {executions}", file=sys.stderr, flush=True)
            os._exit(0)

    atheris.Setup([sys.argv[0], *limits, corpus], one)
    atheris.Fuzz()
    return 0


class TooSlow(Exception):
    """A reader took too long for one input."""


if __name__ == "__main__":
    sys.exit(main())
