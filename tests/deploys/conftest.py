"""Nodes as pyinfra's API reaches them: over ssh, with sudo, with the project's policy, exactly as a deploy does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyinfra.api.config import Config
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.context import ctx_state
from pyinfra_cli.inventory import make_inventory

from facts import snapshot
from lab.api import Lab
from tests.conftest import ROOT


@pytest.fixture
def reached_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    """Every node of the lab, connected, in the inventory's order."""
    monkeypatch.chdir(ROOT)
    state = State(check_for_changes=False)
    with ctx_state.use(state):
        inventory = make_inventory("inventory", cwd=str(ROOT))
        state.init(inventory, Config())
        connect_all(state)
        yield list(inventory)
        for host in inventory:
            snapshot.forget(host)
        disconnect_all(state)


@pytest.fixture
def reached(reached_all: list[Host]) -> Host:
    """node-0, connected."""
    return next(host for host in reached_all if host.name == "node-0")
