"""The lab's own inventory, from a record of it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploys.policy import Policy
from lab.state import State

Reader = Callable[[State], dict[str, dict[str, Any]]]
INVENTORY = Path(__file__).resolve().parents[2] / "inventories/lab.py"


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """What the inventory makes of a record."""

    def read(record: State) -> dict[str, dict[str, Any]]:
        monkeypatch.setenv("DNSMEND_LAB_DIR", str(tmp_path))
        record.save()
        return dict(runpy.run_path(str(INVENTORY))["nodes"])

    return read


def test_emulated_nodes_are_asked_slowly(inventory: Reader) -> None:
    nodes = inventory(State(nodes=3, root="", ready=True, programs="/programs", guests=True, emulated=True))
    assert list(nodes) == ["node-0", "node-1", "node-2"]
    for data in nodes.values():
        asked = {name for name in data if name.startswith("probe_")}
        assert asked and asked <= set(Policy.__annotations__)
        assert data["probe_rate"] == 100
        assert data["kubectl"] == "/programs/kubectl"


def test_other_nodes_are_asked_as_the_policy_says(inventory: Reader) -> None:
    nodes = inventory(State(nodes=1, root="", ready=True, programs="/programs", guests=True))
    assert not [name for name in nodes["node-0"] if name.startswith("probe_")]
