"""A neighbour table without room, on nodes with a kernel of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.api import Lab
from tests.conftest import Run
from tests.kubernetes.test_fix_dns import lost, named

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]


def test_a_full_neighbour_table_is_named_and_its_remedy_heals(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    healed.inject("neighbours-full", "node-2")
    assert named(pyinfra, tmp_path) == {"node-2": {"KERNEL-003"}}
    diagnosis = json.loads((tmp_path / "diagnosis.json").read_text())
    for command in diagnosis["verdicts"][0]["fix"].split(" && "):
        remedy = command.split()
        assert remedy[:3] == ["pyinfra", "inventory", "--limit"]
        done = pyinfra(*remedy[1:])
        assert done.returncode == 0, done.stderr
    assert [lost(each, 20) for each in healed.nodes] == [0, 0, 0]
    file = tmp_path / "after.json"
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={file}", timeout=400)
    assert done.returncode == 0, done.stderr
    after = json.loads(file.read_text())
    assert after["verdicts"] == []
    said = {one["node"]: one["sentence"] for one in after["findings"] if one["check"] == "KERNEL-003"}
    # The kernel's complaint is younger than five minutes.
    assert "now it has room" in said["node-2"]
