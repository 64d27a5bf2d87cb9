"""A diagnosis from two workers is the one from a single machine, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster
from pyinfra.api.exceptions import PyinfraError

from bench.simulated.running import INVENTORY, running
from deploys import shards
from deploys.exits import Exit
from deploys.shards import Answer, Request, Shards, split
from lab.api import Lab
from reports import json_report
from tests.conftest import ROOT, Run
from tests.reports import diagnoses
from tests.reports.test_bundle import recorded


def test_parts_are_alike_and_in_order() -> None:
    names = [f"node-{number}" for number in range(7)]
    assert [len(part) for part in split(names, 3)] == [3, 2, 2]
    assert [name for part in split(names, 3) for name in part] == names
    assert split(names[:2], 5) == [["node-0"], ["node-1"]]
    assert split(names, 0) == [names]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("replay=saved", "--data replay: not over shards: no node is needed"),
        ("capture=packets", "--data capture: not over shards: pyinfra -y inventory deploys/diagnose.py"),
        ("pseudonyms=yes", "--data pseudonyms=yes: must be true or false"),
        ("before=/nonexistent", "--data before=/nonexistent: No such file or directory"),
    ],
)
def test_an_option_that_is_not_done_over_shards_is_refused(data: str, sentence: str) -> None:
    with pytest.raises((ValueError, PyinfraError), match=f"^{sentence}"):
        shards.main(["inventory", "--data", data])


def test_a_bundle_of_shards_has_pseudonyms_and_the_report_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shards, "names_of", lambda *_: ["node-0"])
    monkeypatch.setattr(shards, "workers", lambda *_: nullcontext(SimpleNamespace(scheduler_info=_one_worker)))
    seen = recorded({"node-0": None}, hops=[], counters={}, endpoints={}, unseen=[])
    monkeypatch.setattr(shards, "look", lambda _: seen)
    monkeypatch.setattr(shards, "look_back", lambda *_: None)
    earlier = diagnoses.healthy()
    (tmp_path / "before.json").write_text(json_report.render(earlier))
    given = [f"bundle={tmp_path / 'kept'}", "pseudonyms=true", f"json={tmp_path / 'now.json'}"]
    given.append(f"before={tmp_path / 'before.json'}")
    assert shards.main(["inventory", *(f"--data={each}" for each in given)]) == Exit.NOT_WELL
    kept = [path.read_text() for path in (tmp_path / "kept").iterdir()]
    assert not any("node-0" in text for text in kept) and any("host-1" in text for text in kept)
    assert json.loads((tmp_path / "now.json").read_text())["before"] == earlier["hops"]


def _one_worker(**_: int) -> dict[str, Any]:
    return {"workers": {"tcp://127.0.0.1:1": {}}}


@pytest.fixture
def client() -> Iterator[Client]:
    """One worker, in this process: what it runs can be exchanged."""
    with (
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as one,
    ):
        yield one


def test_a_worker_that_fails_or_hangs_leaves_its_part_unknown(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(request: Request) -> Answer:
        if "bad" in request["nodes"]:
            raise OSError("no space left on device")
        if "slow" in request["nodes"]:
            time.sleep(8)
        return {"nodes": request["nodes"], "said": {"heard": True}, "log": "", "code": 0}

    monkeypatch.setattr(shards, "work", work)
    answers = Shards(client, "inventory", [], [["good"], ["bad"], ["slow"]], patience=2).each("read")
    assert [answer["nodes"] for answer in answers] == [["good"], ["bad"], ["slow"]]
    assert [answer["said"] for answer in answers] == [{"heard": True}, None, None]
    assert "no space left on device" in answers[1]["log"]
    assert "no worker has answered within 2 s" in answers[2]["log"]


def test_nodes_whose_worker_has_said_nothing_are_named(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first part's worker is lost while it reads: its nodes are not known, and the diagnosis is not well."""
    plain = shards.work

    def work(request: Request) -> Answer:
        if "node-0" in request["nodes"]:
            raise OSError("lost")
        return plain(request)

    monkeypatch.setattr(shards, "work", work)
    monkeypatch.chdir(ROOT)
    with running(tmp_path, 6) as fleet:
        monkeypatch.setenv("DNSMEND_FLEET", fleet.environment["DNSMEND_FLEET"])
        seen = shards.look(Shards(client, str(INVENTORY), [], split([f"node-{n}" for n in range(6)], 2)))
    assert {name for name, why in seen.nodes.items() if why} == {"node-0", "node-1", "node-2"}
    assert seen.evidence["unseen"][0].startswith(
        "node-0, node-1, node-2: not read by their shard's worker: OSError: lost"
    )
    assert {hop["node"] for hop in seen.evidence["hops"] if hop["state"] == "ok"} == {"node-3", "node-4", "node-5"}


@pytest.mark.lab
def test_the_verdict_is_the_same_when_a_worker_is_killed(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    healed.inject("dnsmasq-except-cilium", "node-1")
    alone, sharded = tmp_path / "alone.json", tmp_path / "sharded.json"
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={alone}", timeout=300)
    assert done.returncode == Exit.NOT_WELL, done.stderr

    driver = subprocess.Popen(
        [sys.executable, "-m", "deploys.shards", "inventory", "--data", f"json={sharded}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    try:
        victim, orphan = _working(driver.pid)
        os.kill(victim, signal.SIGKILL)
        _, log = driver.communicate(timeout=600)
    finally:
        driver.kill()
        driver.wait()
    # What the dead worker has started ends by itself: it only reads.
    for _ in range(600):
        if not Path(f"/proc/{orphan}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{orphan}").exists()
    assert driver.returncode == Exit.NOT_WELL, log
    assert _said(json.loads(sharded.read_text())) == _said(json.loads(alone.read_text()))
    assert {verdict["check"] for verdict in json.loads(sharded.read_text())["verdicts"]} == {"DNSMASQ-001"}


def _said(diagnosis: dict[str, Any]) -> Any:
    """What must not depend on who has asked: all but times and counts."""
    return {
        "nodes": diagnosis["nodes"],
        "hops": {(hop["id"], hop["state"]) for hop in diagnosis["hops"]},
        "findings": {(one["check"], one["node"], one["status"]) for one in diagnosis["findings"]},
        "verdicts": [(one["check"], one["hop"], one["culprits"], one["certainty"]) for one in diagnosis["verdicts"]],
        "unseen": sorted(diagnosis["unseen"]),
    }


def _working(driver: int) -> tuple[int, int]:
    """A worker that is at it, and what it has started: process ids."""
    for _ in range(1200):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                above = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            if b"deploys/shard.py" in command and above == driver:
                return parent, int(process.name)
        time.sleep(0.05)
    raise AssertionError("no worker has begun")


def fixed_by_two(*more: str) -> subprocess.CompletedProcess[str]:
    """`python -m deploys.shards inventory --fix`, as a user has it."""
    return subprocess.run(
        [sys.executable, "-m", "deploys.shards", "inventory", "--fix", *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )


def rules_of(lab: Lab) -> dict[str, str]:
    """By node what is in dnsmasq's folder."""
    return {node.name: node.run(["sh", "-c", "cd /etc/dnsmasq.d; tail -n +1 -- *"]).stdout for node in lab.nodes}


@pytest.mark.lab
def test_two_workers_fix_in_waves_and_one_undo_takes_it_back(healed: Lab, pyinfra: Run) -> None:
    """node-0 is the first worker's and node-2 the second one's: two waves of one run, in the plan's order."""
    healed.inject("dnsmasq-except-cilium", "node-0")
    healed.inject("dnsmasq-interface-bond0", "node-2")
    broken = rules_of(healed)
    planned = fixed_by_two("--dry")
    assert planned.returncode == Exit.WELL, planned.stderr
    assert "-except-interface=cilium_*" in planned.stderr and "-interface=bond0" in planned.stderr
    assert rules_of(healed) == broken
    done = fixed_by_two()
    assert done.returncode == Exit.WELL, done.stderr
    assert done.stderr.index("Wave 1 of 2: node-0") < done.stderr.index("Wave 2 of 2: node-2")
    assert "All is well" in done.stdout + done.stderr
    assert {name for name, text in rules_of(healed).items() if text != broken[name]} == {"node-0", "node-2"}
    run = done.stderr.rpartition("run=")[2].split()[0]
    undone = pyinfra("-y", "inventory", "deploys/undo.py", "--data", f"run={run}", timeout=300)
    assert undone.returncode == Exit.WELL, undone.stderr
    assert rules_of(healed) == broken


@pytest.mark.lab
def test_a_wave_that_is_not_proven_stops_the_other_workers_too(healed: Lab) -> None:
    healed.inject("dnsmasq-cannot-verify", "node-0")
    healed.inject("dnsmasq-except-cilium", "node-2")
    broken = rules_of(healed)
    done = fixed_by_two()
    assert done.returncode == Exit.NOT_WELL
    assert "Wave 1 of 2 is not proven: no later node is changed" in done.stderr
    assert "Wave 2 of 2: node-2" not in done.stderr
    assert rules_of(healed) == broken
