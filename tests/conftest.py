"""The lab for all tests: the one that is up, healed; or one that is made for the session and taken down after it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import lifecycle, plan
from lab.api import Lab

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    made = not lifecycle.status()["up"]
    if made:
        lifecycle.up(plan.MIN_NODES)
    running = Lab.attach()
    running.heal()
    yield running
    if made:
        lifecycle.down()
    else:
        running.heal()


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    """The lab without a fault, and without one afterwards."""
    if any(lab.record.faults.values()):
        lab.heal()
    yield lab
    lab.heal()


@pytest.fixture
def pyinfra() -> Run:
    """Runs pyinfra as a user would, in the project's folder: `pyinfra("inventory", "deploys/fix_dns.py", "-y")`."""

    def run(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyinfra", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=os.environ | {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1", "COLUMNS": "200"},
        )

    return run
