"""What a diagnosis keeps: folders that cannot be written cost a sentence, never the diagnosis."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.exceptions import PyinfraError

from checks.diagnosis import Hop
from deploys import bundle, evidence
from probes.capture_filter import Point
from probes.questions import Asking
from tests.checks.kube_fleet import VIP, fleet
from tests.checks.test_captured import capture
from tests.conftest import Run
from tests.reports.diagnoses import loss
from tests.reports.test_bundle import recorded

HOW = Asking("www.example.com", "kubernetes.default.svc.cluster.local", 3, 1.0, 3)
HOST: Any = SimpleNamespace(name="node-0", state=SimpleNamespace(config=SimpleNamespace(PARALLEL=1)))
LOSES: Hop = {
    "id": "node-0/host/10.32.0.10:53",
    "stage": "host to service",
    "node": "node-0",
    "source": "host",
    "destination": VIP,
    "port": 53,
    "owner": "node-0",
    "because": [],
    "losses": [loss(lost=20)],
    "state": "loses",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node answers with a packet of one interface."""
    at: list[Point] = [capture("eth0", "uplink")["point"]]
    monkeypatch.setattr(evidence, "points", lambda *_: at)
    said = {"captures": [capture("eth0", "uplink")], "results": [], "missing": ""}
    monkeypatch.setattr(evidence, "_ask", lambda *_: said)


def test_a_folder_that_cannot_be_made_is_a_note(tmp_path: Path, asked: None) -> None:
    (tmp_path / "file").write_text("")
    found = evidence.captures([HOST], fleet(), [LOSES], HOW, tmp_path / "file/captures")
    assert found["notes"] == [f"nothing was captured: {tmp_path}/file/captures: Not a directory"]
    with pytest.raises(PyinfraError, match=r"^capture=\S+/captures: cannot be written: Not a directory$"):
        evidence.check(str(tmp_path / "file/captures"))
    evidence.check(str(tmp_path / "new/captures"))
    assert list((tmp_path / "new/captures").iterdir()) == []
    assert [(tmp_path / made).stat().st_mode & 0o777 for made in ("new", "new/captures")] == [0o700, 0o700]


def test_packets_that_cannot_be_written_are_a_note(
    tmp_path: Path, asked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    found = evidence.captures([HOST], fleet(), [LOSES], HOW, tmp_path)
    assert found["notes"] == [f"node-0: packets were not kept: {tmp_path}: No space left on device"]


def test_the_files_of_this_run_are_told_apart_from_older_ones(tmp_path: Path, asked: None) -> None:
    (tmp_path / "older.pcap").write_bytes(b"")
    found = evidence.captures([HOST], fleet(), [LOSES], HOW, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "older.pcap", *map(Path, found["files"])])
    assert [Path(name).name.partition("_")[2] for name in found["files"]] == ["node-0_eth0.pcap"]


@pytest.fixture
def replayed(tmp_path: Path) -> tuple[str, ...]:
    """What replays a bundle, without a node."""
    bundle.save(str(tmp_path / "saved"), recorded({"node-0": None}, hops=[], counters={}, endpoints={}, unseen=[]))
    return ("-y", "@local", "deploys/diagnose.py", "--data", f"replay={tmp_path / 'saved'}")


@pytest.mark.parametrize("key", ["bundle", "replay", "capture"])
def test_a_folder_whose_name_is_a_number_is_refused_in_one_sentence(
    key: str, replayed: tuple[str, ...], pyinfra: Run
) -> None:
    done = pyinfra(*replayed, "--data", f"{key}=20261122")
    assert done.returncode == 1
    assert "must be" in done.stderr and "the path of a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_older_capture_is_not_put_into_a_bundle(replayed: tuple[str, ...], pyinfra: Run, tmp_path: Path) -> None:
    (tmp_path / "packets").mkdir()
    (tmp_path / "packets/older.pcap").write_bytes(b"")
    kept = ("--data", f"bundle={tmp_path / 'again'}", "--data", f"capture={tmp_path / 'packets'}")
    done = pyinfra(*replayed, *kept)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "again/manifest.json").exists()
    assert not (tmp_path / "again/captures").exists()


def test_a_bundle_that_fails_at_the_end_does_not_take_the_reports(
    replayed: tuple[str, ...], pyinfra: Run, tmp_path: Path
) -> None:
    # The report makes the folder one that holds something else, after it was found empty.
    (tmp_path / "again").mkdir()
    report = tmp_path / "again/report.json"
    done = pyinfra(*replayed, "--data", f"json={report}", "--data", f"bundle={tmp_path / 'again'}")
    assert done.returncode == 1
    assert "the bundle could not be saved" in done.stderr
    assert json.loads(report.read_text())["nodes"] == {"node-0": "timed out"}
