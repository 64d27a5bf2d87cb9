"""How long a deploy's imports take: `python -X importtime` in a fresh interpreter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from bench.machine import as_a_user

ROOT = Path(__file__).resolve().parent.parent
#: What pyinfra imports before a deploy is read; then what the deploy imports.
DEPLOYS: dict[str, str] = {
    "pyinfra alone": "import pyinfra_cli.main",
    "deploys/diagnose.py": "import pyinfra_cli.main, deploys.bundle, deploys.cases, deploys.look, reports.write",
    "deploys/fix_dns.py": "import pyinfra_cli.main, deploys.rollout, operations.coredns, operations.verify",
}
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")


class Imports(TypedDict):
    """Milliseconds: all of a deploy's imports, and the dearest top-level packages by their own modules' time."""

    total: float
    dearest: dict[str, float]


def measured(rounds: int = 5) -> dict[str, Imports]:
    """The imports of each deploy in the fastest of some runs: what disturbs a run only makes it slower."""
    return {name: _of(statement, rounds) for name, statement in DEPLOYS.items()}


def _of(statement: str, rounds: int) -> Imports:
    own = min((_once(statement) for _ in range(rounds)), key=lambda each: sum(each.values()))
    dearest = sorted(own.items(), key=lambda item: -item[1])[:8]
    return {"total": round(sum(own.values()), 1), "dearest": {name: round(ms, 1) for name, ms in dearest}}


def _once(statement: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        cwd=ROOT,
        env=as_a_user(),
        capture_output=True,
        text=True,
        check=True,
    )
    return by_package(done.stderr)


def by_package(text: str) -> dict[str, float]:
    """Own milliseconds of each top-level package, from what `-X importtime` prints."""
    found: dict[str, float] = {}
    for own, _, _, module in _LINE.findall(text):
        package = module.partition(".")[0]
        found[package] = found.get(package, 0.0) + int(own) / 1000
    return found
