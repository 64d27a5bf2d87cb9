"""The run's journal on the controller: private, and a run that cannot write it ends, before any change if it can."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from operations import lease, lock, runs

RUN = "20261122T080000Z-abcd"


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_for_its_owner_alone(controller: Path) -> None:
    runs.begin(RUN, (), {"wave_nodes": 1})
    journal = controller / "runs" / f"{RUN}.jsonl"
    assert journal.stat().st_mode & 0o777 == 0o600 and journal.parent.stat().st_mode & 0o777 == 0o700
    assert [json.loads(line)["event"] for line in journal.read_text().splitlines()] == ["began"]


def test_one_that_cannot_be_written_ends_the_run(controller: Path) -> None:
    (controller / "runs").write_text("")
    with pytest.raises(PyinfraError, match=r"^stopped before any change: the run's journal cannot be written \(.*runs"):
        runs.begin(RUN, (), {})
    with pytest.raises(PyinfraError, match=r"^the run's journal cannot be written"):
        runs.record(RUN, "node-0", "changed")


def test_what_is_held_is_released_all_the_same(controller: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (controller / "runs").write_text("")
    released: list[str] = []
    state: Any = SimpleNamespace(failed_hosts=set())
    monkeypatch.setitem(lock._begun, RUN, state)
    monkeypatch.setattr(lock._held, "lease", ("kubectl", "kube-system"))
    monkeypatch.setattr(lease, "release", lambda kubectl, namespace, run: released.append(run))
    lock.release(RUN)
    assert released == [RUN]
