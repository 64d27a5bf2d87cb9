"""A run is saved, carried away and judged again: the same verdict, without secrets, under other names if wanted."""

from __future__ import annotations

import copy
import json
import re
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pyinfra.api.exceptions import PyinfraError

from checks.case import Case
from checks.catalogue import judge
from deploys import bundle
from deploys.bundle import Recorded
from facts.snapshot import Snapshot
from lab.api import Lab
from models import kube_services, node
from probes.probe import Result, Try, probe
from tests.checks import kube_fleet
from tests.conftest import Run

FLEET = Path(__file__).resolve().parent.parent / "fixtures" / "fleet.json"


def recorded(fleet: Mapping[str, Snapshot | None], **evidence: Any) -> Recorded:
    vips = node.vips(fleet, None)
    return Recorded(
        started="2026-11-22T03:10:00Z",
        finished="2026-11-22T03:10:09Z",
        nodes={name: "" if read else "timed out" for name, read in fleet.items()},
        fleet=dict(fleet),
        results={name: [_lost(vip) for vip in vips[name]] for name in fleet},
        policy={"dns_vips": None, "probe_name": "google.com"},
        evidence=evidence,
    )


def _lost(vip: str) -> Result:
    tries: list[Try] = [
        {"outcome": "timeout", "rtt_ms": None, "rcode": None, "answers": [], "detail": f"{vip}: nothing"}
    ]
    return {"probe": probe(vip, "google.com", tries=1), "carrier": "bash", "tries": tries}


def judged(seen: Recorded) -> Counter[tuple[str, int, str, int]]:
    """Every finding by check, node and status; how long its evidence is."""
    vips = node.vips(seen.fleet, seen.policy["dns_vips"])
    order = list(seen.fleet)
    return Counter(
        (finding["check"], order.index(finding["node"]), str(finding["status"]), len(finding["evidence"]))
        for name in seen.fleet
        for finding in judge(Case(name, seen.fleet, vips[name], seen.results[name]))
    )


def incidents() -> dict[str, dict[str, Snapshot | None]]:
    """Fleets that were recorded, and what is known of them."""
    lan = cast("dict[str, Snapshot | None]", json.loads(FLEET.read_text()))
    stale = cast("dict[str, Snapshot | None]", kube_fleet.fleet())
    kube_fleet.incident(cast(Snapshot, stale["node-1"]))
    gone = cast("dict[str, Snapshot | None]", kube_fleet.fleet())
    gone["node-2"] = None
    excepted = copy.deepcopy(lan)
    for read in filter(None, excepted.values()):
        for instance in read["dnsmasq"]["value"]["instances"]:
            instance["options"].append(
                {"name": "except-interface", "value": "cilium_*", "file": "/etc/dnsmasq.d/k8s.conf", "line": 14}
            )
    return {"lan": lan, "stale": stale, "gone": gone, "excepted": excepted}


@pytest.mark.parametrize("pseudonyms", [False, True])
@pytest.mark.parametrize("name", ["lan", "stale", "gone", "excepted"])
def test_a_bundle_is_judged_as_the_run_was(name: str, pseudonyms: bool, tmp_path: Path) -> None:
    seen = recorded(incidents()[name], note="x")
    bundle.save(str(tmp_path / "b"), seen, pseudonyms=pseudonyms)
    back = bundle.load(str(tmp_path / "b"))
    assert judged(back) == judged(seen)
    assert (back.started, back.finished, back.policy, back.evidence) == (
        seen.started,
        seen.finished,
        seen.policy,
        seen.evidence,
    )
    if not pseudonyms:
        assert back == seen


def test_what_fails_still_fails_so_the_comparison_means_something() -> None:
    failing = {
        name: {check for check, _, status, _ in judged(recorded(fleet)) if status == "fail"}
        for name, fleet in incidents().items()
    }
    assert "DNSMASQ-001" in failing["excepted"] and "IPTABLES-003" in failing["stale"]


def test_pseudonyms_are_everywhere(tmp_path: Path) -> None:
    seen = recorded(
        incidents()["stale"], endpoints={"10.32.0.10": ["10.244.0.11:53"]}, lines=["node-1: 10.244.0.12 gone"]
    )
    bundle.save(str(tmp_path / "b"), seen, pseudonyms=True)
    text = "".join(path.read_text() for path in (tmp_path / "b").iterdir())
    for told in (*seen.fleet, "zjusct", "10.32.0.10", "172.25.4.1", "10.244.0.12", "192.18.0.2"):
        assert not re.search(rf"(?<![\w.]){re.escape(told)}(?![\w])", text), told
    back = bundle.load(str(tmp_path / "b"))
    assert list(back.fleet) == ["host-1", "host-2", "host-3"]
    ((service, (endpoint,)),) = back.evidence["endpoints"].items()
    assert service in kube_services.vips(back.fleet, {}) and endpoint.endswith(":53")
    first, second = tmp_path / "b", tmp_path / "c"
    bundle.save(str(second), seen, pseudonyms=True)
    assert (first / "fleet.json").read_text() != (second / "fleet.json").read_text(), "each bundle has a key of its own"


def test_pseudonyms_leave_no_file_of_packets_with_a_node_in_its_name(tmp_path: Path) -> None:
    files = ["runs/captures/20261122T030000Z_node-0_bond0.pcap"]
    captures = {"journeys": [{"files": files}], "notes": [], "files": files}
    seen = recorded({"node-0": None}, captures=captures)
    bundle.save(str(tmp_path / "p"), seen, pseudonyms=True)
    assert "node-0" not in (tmp_path / "p/evidence.json").read_text()
    bundle.save(str(tmp_path / "b"), seen)
    assert json.loads((tmp_path / "b/evidence.json").read_text())["captures"] == captures


def test_it_is_for_its_owner_alone_and_holds_no_secret(tmp_path: Path) -> None:
    capture = tmp_path / "node-0.pcap"
    capture.write_bytes(b"\xd4\xc3\xb2\xa1")
    seen = recorded(incidents()["lan"], lines=["Authorization: Bearer hunter2hunter2"])
    seen.policy["ssh_password"] = "hunter2"
    bundle.save(str(tmp_path / "b"), seen, captures=[capture])
    modes = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "b").rglob("*")}
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o700
    assert {mode for path, mode in modes.items() if path.suffix} == {0o600}
    assert modes[Path("b/captures")] == 0o700
    assert b"hunter2" not in b"".join(path.read_bytes() for path in (tmp_path / "b").rglob("*.json"))
    assert (tmp_path / "b" / "captures" / "node-0.pcap").read_bytes() == b"\xd4\xc3\xb2\xa1"
    bundle.save(str(tmp_path / "p"), seen, captures=[capture], pseudonyms=True)
    assert not (tmp_path / "p" / "captures").exists()
    assert json.loads((tmp_path / "p" / "manifest.json").read_text())["captures_left_out"] == 1


def test_bytes_that_are_no_text_come_back(tmp_path: Path) -> None:
    bundle.save(str(tmp_path / "b"), recorded(incidents()["lan"], odd="\udcff \x1b[2J"))
    assert bundle.load(str(tmp_path / "b")).evidence == {"odd": "\udcff \x1b[2J"}


def test_a_bundle_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    seen = recorded(incidents()["lan"])
    (tmp_path / "empty").mkdir()
    bundle.save(str(tmp_path / "empty"), seen)
    bundle.save(str(tmp_path / "empty"), seen)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("mine")
    for call in (lambda path: bundle.save(path, seen), bundle.check):
        with pytest.raises(PyinfraError, match=r"home: is not empty and holds no bundle: nothing was written to it$"):
            call(str(tmp_path / "home"))
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    with pytest.raises(PyinfraError, match=r"holds more than a bundle \(notes.txt\): nothing was written to it$"):
        bundle.save(str(tmp_path / "empty"), seen)
    with pytest.raises(PyinfraError, match=r"there is no directory"):
        bundle.check(str(tmp_path / "not" / "there"))
    with pytest.raises(PyinfraError, match=r"thesis.txt: is not a directory"):
        bundle.check(str(tmp_path / "home" / "thesis.txt"))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half written stays"


def spoil(folder: Path, how: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    if how == "format":
        manifest["format"] = 99
    elif how == "kind":
        manifest["kind"] = "something"
    elif how == "outside":
        manifest["sha256"]["../fleet.json"] = "0"
    elif how == "no files":
        manifest["sha256"] = {}
    elif how == "part left out":
        del manifest["sha256"]["results.json"]
    elif how == "changed":
        (folder / "fleet.json").write_text((folder / "fleet.json").read_text().replace("node-0", "node-9"))
    elif how == "file gone":
        (folder / "results.json").unlink()
    elif how == "link":
        (folder / "results.json").rename(folder.parent / "results.json")
        (folder / "results.json").symlink_to(folder.parent / "results.json")
    (folder / "manifest.json").write_text("{" if how == "no json" else json.dumps(manifest))
    if how == "empty":
        (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("format", "is a bundle of format 99, and this dnsmend reads format 1"),
        ("kind", "is no bundle: manifest.json is of something else"),
        ("outside", "is damaged: '../fleet.json' is not in it"),
        ("no files", "is damaged: its manifest names no files"),
        ("part left out", "is damaged: it holds no results"),
        ("changed", "is damaged: fleet.json is not what was saved"),
        ("file gone", "is damaged: results.json: No such file or directory"),
        ("link", "is damaged: 'results.json' is not in it"),
        ("no json", "is damaged: manifest.json is not JSON"),
        ("empty", "is no bundle: manifest.json: No such file or directory"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_one_sentence(how: str, sentence: str, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    bundle.save(str(folder), recorded(incidents()["lan"]))
    spoil(folder, how)
    with pytest.raises(PyinfraError) as error:
        bundle.load(str(folder))
    assert str(error.value) == f"the bundle cannot be replayed: {folder}: {sentence}"


@pytest.mark.lab
@pytest.mark.parametrize("pseudonyms", [False, True])
def test_the_lab_is_replayed_with_the_same_verdict(healed: Lab, pyinfra: Run, pseudonyms: bool, tmp_path: Path) -> None:
    """A real incident on a real node, saved, and judged again without the nodes."""
    healed.inject("dnsmasq-except-cilium")
    live, again, saved = (str(tmp_path / name) for name in ("live.json", "again.json", "bundle"))
    hide = ("--data", "pseudonyms=true") if pseudonyms else ()
    done = pyinfra(
        *("-y", "inventory", "deploys/diagnose.py", "--data", f"json={live}", "--data", f"bundle={saved}"), *hide
    )
    assert done.returncode == 1, done.stderr
    healed.heal()
    replayed = pyinfra("-y", "@local", "deploys/diagnose.py", "--data", f"replay={saved}", "--data", f"json={again}")
    assert replayed.returncode == 1, replayed.stderr
    first, second = (json.loads(Path(path).read_text()) for path in (live, again))
    if not pseudonyms:
        assert first == second
    assert Counter(one["check"] for one in first["verdicts"]) == Counter(one["check"] for one in second["verdicts"])
    before, after = (next(one for one in made["verdicts"] if one["check"] == "DNSMASQ-001") for made in (first, second))
    if not pseudonyms:
        return
    assert after["culprits"] == ["host-1"] and "/etc/dnsmasq.d/k8s.conf:14" in after["sentence"]
    for key in ("check", "certainty", "operation", "fix"):
        assert after[key] == before[key]
    assert [len(before[key]) for key in before if isinstance(before[key], list)] == [
        len(after[key]) for key in after if isinstance(after[key], list)
    ]
    assert not re.search(r"\bnode-\d|zjusct|\b172\.25\.4\.1\b|\b172\.26\.2\.145\b", Path(again).read_text())
