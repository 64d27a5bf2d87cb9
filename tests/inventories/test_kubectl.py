"""The cluster's own list of nodes, as a file and as kubectl prints it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyinfra.api.exceptions import InventoryError

from inventories import kubectl

SAMPLE = Path(__file__).parent / "samples" / "nodes.json"

GROUPS = {
    "all": [("cp-0", {"ssh_hostname": "192.0.2.10"}), ("worker-0", {"ssh_hostname": "fd00::20"}), ("worker-1", {})],
    "control-plane": ["cp-0"],
    "worker": ["worker-0", "worker-1"],
}


def test_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert kubectl.groups(str(SAMPLE)) == GROUPS
    said = capsys.readouterr()
    assert said.out == ""
    for line in (
        "items[2]: worker-1: has no InternalIP: it is reached by its name",
        "items[3]: win-0: left out: nothing to reach over SSH (windows node)",
        "items[4]: aci: left out: nothing to reach over SSH (virtual node)",
        "items[5]: no node: left out (and 1 more lines)",
    ):
        assert line in said.err


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, f'[ "$1 $2 $3 $4" = "get nodes -o json" ] && cat {SAMPLE}')
    assert kubectl.groups("") == GROUPS


def test_a_cluster_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "echo E1122 noise >&2; echo 'The connection to the server was refused' >&2; exit 1")
    with pytest.raises(InventoryError, match="kubectl get nodes: The connection to the server was refused"):
        kubectl.groups("")
    fake(tmp_path, monkeypatch, "echo not JSON")
    with pytest.raises(InventoryError, match="not what kubectl prints"):
        kubectl.groups("")
    fake(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(kubectl, "TIMEOUT", 1)
    with pytest.raises(InventoryError, match="kubectl get nodes: it did not answer within 1 s"):
        kubectl.groups("")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InventoryError, match="kubectl: not found"):
        kubectl.groups("")


@pytest.mark.parametrize("text", ["[]", '{"kind": "PodList", "items": []}', '{"kind": "List", "items": []}', "{"])
def test_what_is_no_list_of_nodes_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "nodes.json").write_text(text)
    with pytest.raises(InventoryError):
        kubectl.groups(str(tmp_path / "nodes.json"))
