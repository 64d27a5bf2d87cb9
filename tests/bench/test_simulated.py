"""A diagnosis of many nodes, some broken, slow or not there: on simulated ones, over SSH on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.scale import Run, flat, table
from bench.simulated import fleet
from bench.simulated.node import Node, asked
from bench.simulated.running import INVENTORY, ROOT, running
from deploys.exits import Exit
from facts.snapshot import NodeSnapshot
from probes.carry import carry
from probes.probe import HOST, pod, probe
from probes.read import read


@contextmanager
def diagnosed(folder: Path, hosts: int, *data: str, **shares: Any) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Exit code, report, log."""
    with running(folder, hosts, delay=0.05, **shares) as simulated:
        report = folder / "diagnosis.json"
        options = [word for each in (f"json={report}", *data) for word in ("--data", each)]
        done = subprocess.run(
            [sys.executable, "-m", "pyinfra", "-y", str(INVENTORY), "deploys/diagnose.py", *options],
            cwd=ROOT,
            env=os.environ | simulated.environment | {"PYINFRA_PROGRESS": "off"},
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert report.exists(), done.stderr
    yield done.returncode, json.loads(report.read_text()), done.stderr


def test_a_node_is_read_as_the_recorded_one_with_its_own_name_and_addresses() -> None:
    fact = NodeSnapshot()
    one, other = (fact.process(Node(number).answer(fact.command()).split("\n")) for number in (7, 1234))
    assert {reading["state"] for reading in one.values()} <= {"value", "empty", "not permitted"}  # type: ignore[index]
    assert [each["system"]["value"]["hostname"] for each in (one, other)] == ["node-7", "node-1234"]  # type: ignore[index]
    addresses = [
        {address["address"] for link in each["interfaces"]["value"] for address in link["addresses"]}
        for each in (one, other)
    ]
    assert Node(7).vip in addresses[0]
    assert {one for one in addresses[0] & addresses[1] if "." in one} == {"127.0.0.1"}


def test_what_a_node_is_asked_it_answers_as_the_carriers_do() -> None:
    probes = [
        probe("10.64.0.150", "version.bind", "TXT", rdclass="CH", tries=3),
        probe("10.64.0.150", "it's.example", "SOA", source=pod("p", 4, address="10.128.0.53"), protocol="tcp", tries=2),
        probe("10.64.0.150", source=HOST, protocol="icmp", tries=3),
    ]
    assert asked(carry(probes)) == probes
    for incident, outcome in ((False, "answered"), (True, "closed")):
        results = read(probes, Node(0, incident).answer(carry(probes)).split("\n"))
        assert [{one["outcome"] for one in each["tries"]} for each in results] == [
            {"answered"},
            {outcome},
            {"answered"},
        ]


def test_a_healthy_fleet_is_well(tmp_path: Path) -> None:
    with diagnosed(tmp_path, 12) as (code, diagnosis, log):
        assert code == Exit.WELL, log
        assert set(diagnosis["nodes"].values()) == {""} and len(diagnosis["nodes"]) == 12
        assert {hop["state"] for hop in diagnosis["hops"]} == {"ok"}


def test_the_broken_ones_are_found_among_the_others(tmp_path: Path) -> None:
    with diagnosed(tmp_path, 25, incident=3) as (code, diagnosis, log):
        assert code == Exit.NOT_WELL, log
        (verdict,) = diagnosis["verdicts"]
        assert verdict["check"] == "DNSMASQ-001"
        assert sorted(verdict["culprits"]) == ["node-0", "node-1", "node-2"]


def test_nodes_that_are_not_there_or_slow_are_named_and_hold_up_no_other(tmp_path: Path) -> None:
    """A port that is closed, an sshd that hangs, a network that leads nowhere, a node that takes minutes."""
    shares: dict[str, Any] = {"closed": 0.1, "silent": 0.05, "blackholed": 0.05, "slow": 0.05, "slow_seconds": 120.0}
    plan = fleet.Plan(40, 1, tmp_path, **shares)
    unreachable, slow = set(plan.unreachable()), {f"node-{n}" for n in range(40) if plan.is_slow(n)}
    assert {plan.port_of(n) for n in range(40)} == {1, 2, 3, 4} and slow
    with diagnosed(tmp_path, 40, "node_deadline=8", **shares) as (code, diagnosis, log):
        assert code == Exit.NOT_WELL, log
        assert {name for name, why in diagnosis["nodes"].items() if "could not be reached" in why} == unreachable
        assert {name for name, why in diagnosis["nodes"].items() if "in time" in why} == slow
        others = {name for name, why in diagnosis["nodes"].items() if not why}
        assert others == {f"node-{n}" for n in range(40)} - unreachable - slow
        assert {hop["node"] for hop in diagnosis["hops"] if hop["state"] == "ok"} == others
        # Each is tried once: none of this is a server that has too much to do.
        for name in unreachable:
            assert len(re.findall(rf"\[{name}\] +Could not connect", log)) == 1, log


def test_connections_that_are_cut_off_are_made_in_the_end(tmp_path: Path) -> None:
    """Five at a time are let in before they are known, as sshd's MaxStartups does."""
    with diagnosed(tmp_path, 30, startups=5) as (code, diagnosis, log):
        assert code == Exit.WELL, log
        assert set(diagnosis["nodes"].values()) == {""}


def test_what_is_kept_of_a_measurement() -> None:
    runs = [Run(n, "healthy", 0, 0, 0, 9.0, n * cost, 100.0, 1.0, 0.5) for n, cost in ((100, 0.06), (1000, 0.05))]
    assert round(flat(runs), 2) == 1.2
    assert "| healthy | 1000 | 0 | 0 | 0 | 9 s | 50.0 s | 50 ms | 100 MiB | 102 KiB | 1.0 s | 0.5 |" in table(runs)
