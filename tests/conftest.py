"""The lab for all tests (the one that is up, healed; or one on a network of its own), and pyinfra on it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State
from pyinfra.context import ctx_state

from facts import snapshot
from lab import lifecycle, plan
from lab.api import Lab
from tests.lab.private import private_lab

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need nodes come first, those with most such tests before the others: what takes long begins early."""
    nodes = Counter(item.path for item in items if item.get_closest_marker("lab"))
    items.sort(key=lambda item: -nodes[item.path])


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # Tests that run side by side have a lab for each worker.
    if "PYTEST_XDIST_WORKER" not in os.environ and lifecycle.status()["up"]:
        running = Lab.attach()
        running.heal()
        yield running
        running.heal()
        return
    with private_lab(tmp_path_factory.mktemp("lab") / "state"):
        lifecycle.up(plan.MIN_NODES)
        yield Lab.attach()


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

    def run(*arguments: str, timeout: float = 120, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyinfra", *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            env=os.environ | {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1", "COLUMNS": "200"},
        )

    return run


@pytest.fixture
def reached_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    """Every node of the lab over ssh, with sudo and the project's policy, as a deploy has it."""
    monkeypatch.chdir(ROOT)
    state = State(check_for_changes=False)
    with ctx_state.use(state):
        # Not by pyinfra's command line: importing that patches sockets and threads for every test after it.
        policy = runpy.run_path("group_data/all.py")
        inventory = Inventory((runpy.run_path("inventories/lab.py")["nodes"], _values(policy)))
        state.init(inventory, Config())
        connect_all(state)
        yield list(inventory)
        for host in inventory:
            snapshot.forget(host)
        disconnect_all(state)


def _values(module: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in module.items() if not key.startswith("__")}


@pytest.fixture
def reached(reached_all: list[Host]) -> Host:
    """node-0, connected."""
    return next(host for host in reached_all if host.name == "node-0")
