"""The gate for CI, as CI runs it: its exit codes on real nodes and on recorded snapshots, and what it lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from deploys import drift
from deploys.drift import of_dry_run
from lab.api import Lab
from lab.faults import stand_ins
from lab.places import Node
from reports.drift import junit, text
from tests.conftest import ROOT, Run
from tests.deploys.nodes import served
from tests.operations.rules import load, save

DNSMASQ = "dnsmasq answers pods, LAN and host"
READY = ["    [node-0] Ready: deploys/fix_dns.py\n", "    [node-1] Ready: deploys/fix_dns.py\n"]


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploys.gate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def operation(name: str, changes: tuple[str, ...] = (), conditional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"name": name, "hosts_with_change": list(changes), "hosts_with_conditional_change": list(conditional)}


def plan(*operations: dict[str, Any]) -> str:
    return json.dumps({"plan": list(operations), "results": None})


def test_a_plan_with_changes() -> None:
    found = of_dry_run(
        0,
        plan(
            operation("One run at a time", changes=("node-0", "node-1")),
            operation("Wave 1 of 2: iptables is nft", conditional=("node-1",)),
            operation("Wave 2 of 2: kernel settings", changes=("node-0",)),
            operation("Wave 2 of 2: prove it from the pods", conditional=("node-0",)),
            operation("Wave 2 of 2: gate"),
            operation("The other nodes: prove it from the pods", conditional=("node-1",)),
            operation("Free for other runs", changes=("node-0", "node-1")),
        ),
        READY,
    )
    assert found["pending"] == [
        {"node": "node-0", "operation": "kernel settings", "because": []},
        {"node": "node-1", "operation": "iptables is nft", "because": []},
    ]
    assert (found["nodes"], found["errors"]) == (["node-0", "node-1"], [])
    assert text(found).endswith("2 operations are pending, on 2 of 2 nodes\n")


def test_what_is_done_around_a_change_is_known_by_the_words_of_fix_dns() -> None:
    text = (ROOT / "deploys/fix_dns.py").read_text()
    assert set(re.findall(r'name=f?"(?:\{wave\}: )?([^"]+)"', text)) >= drift.AROUND


@pytest.mark.parametrize(
    ("code", "output", "log"),
    [
        (1, plan(), READY),
        (0, plan(), []),
        (0, "", READY),
        (0, "[]", READY),
        (0, plan(), [*READY, "    No host matches found for --limit pattern: node-7\n"]),
    ],
)
def test_what_is_not_complete_is_an_error(code: int, output: str, log: list[str]) -> None:
    found = of_dry_run(code, output, log)
    assert found["errors"]
    assert text(found).endswith("the comparison is not complete\n")
    suites = ElementTree.fromstring(junit(found))
    assert suites.get("errors") == str(len(found["errors"]))


def test_junit_has_a_case_per_node_and_operation() -> None:
    found = of_dry_run(0, plan(operation(f"Wave 1 of 1: {DNSMASQ}", conditional=("node-0",))), READY)
    cases = [
        (case.get("classname"), case.get("name"), case.find("failure") is not None)
        for case in ElementTree.fromstring(junit(found)).iter("testcase")
    ]
    assert cases == [
        ("gate", "complete", False),
        ("node-0", DNSMASQ, True),
        ("node-1", "as the policy wants it", False),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--snapshots"],
        ["inventory", "-y"],
        ["inventory", "--yes"],
        ["--snapshots", "/nonexistent"],
        ["--snapshots", "tests", "--limit", "node-0"],
        ["a-name-that-is-no-inventory"],
    ],
)
def test_what_cannot_be_compared_is_1_and_never_2(arguments: list[str]) -> None:
    done = gate(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no drift" not in done.stdout and "Traceback" not in done.stderr


def test_an_inventory_without_a_node_is_an_error(tmp_path: Path) -> None:
    """pyinfra alone ends with 0."""
    (tmp_path / "empty.py").write_text("nodes = []\n")
    done = gate(str(tmp_path / "empty.py"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ERROR no node was compared: the inventory is empty, or --limit matches nothing\n" in done.stdout


@pytest.mark.lab
def test_drift_of_the_nodes_and_of_their_snapshots(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    assert gate("inventory").returncode == 0
    healed.inject("dnsmasq-except-cilium", "node-0")
    report = tmp_path / "drift.xml"
    done = gate("inventory", "--junit", str(report))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == f"DRIFT node-0: {DNSMASQ}\n1 operation is pending, on 1 of 3 nodes\n"
    assert ElementTree.parse(report).getroot().get("failures") == "1"

    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    said = pyinfra("inventory", "fact", "facts.snapshot.NodeSnapshot", "--json").stdout
    (snapshots / "fleet.json").write_text(said)
    done = gate("--snapshots", str(snapshots))
    assert done.returncode == 2
    assert f"DRIFT node-0: {DNSMASQ}\n" in done.stdout and "+except-interface=lo\n" in done.stdout
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "node-0.json").write_text(json.dumps(json.loads(said)["facts.snapshot.NodeSnapshot"]["node-0"]))
    done = gate("--snapshots", str(alone))
    assert done.returncode == 2 and f"DRIFT node-0: {DNSMASQ}\n" in done.stdout
    # A policy that is changed in a pull request, judged without a node.
    done = gate("--snapshots", str(snapshots), "inventory", "--data", "dnsmasq_interface_policy=bind-dynamic")
    assert done.returncode == 2 and "+except-interface=virbr*\n" in done.stdout
    done = gate("--snapshots", str(snapshots), "--data", "dnsmasq_interface_policy=bind")
    assert done.returncode == 1 and "must be one of except-lo" in done.stdout
    done = gate("--snapshots", str(snapshots), "--data", "conntrack_max=none", "--junit", str(report))
    assert done.returncode == 1 and ElementTree.parse(report).getroot().get("errors") == "1"

    bundle = tmp_path / "bundle"
    assert pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"bundle={bundle}").returncode == 1
    done = gate("--snapshots", str(bundle))
    assert done.returncode == 2 and f"DRIFT node-0: {DNSMASQ}\n" in done.stdout


@pytest.mark.lab
def test_nodes_that_are_not_there(healed: Lab) -> None:
    assert gate("inventory", "--limit", "nobody").returncode == 1
    # Half of it matches: what was meant by the other half is not compared.
    assert gate("inventory", "--limit", "node-0", "--limit", "nobody").returncode == 1
    node = healed.node("node-1")
    node.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    try:
        done = gate("inventory")
        assert done.returncode == 1
        assert "pyinfra ended with 1: a node could not be reached" in done.stdout
    finally:
        node.run(["systemctl", "start", "ssh.service"])


@pytest.fixture
def node_of_a_cluster(healed: Lab) -> Iterator[Node]:
    """node-0 with a stand-in for kube-proxy, and iptables chosen for good, as fix_dns would leave it."""
    node = healed.node("node-0")
    choose(node, "nft")
    stand_ins.kube_proxy(node)
    yield node
    stand_ins.no_kube_proxy(node)
    node.run(["iptables", "-w", "-t", "nat", "-X", "KUBE-SERVICES"], check=False)
    node.run(["sh", "-c", "for name in iptables ip6tables; do update-alternatives --auto $name; done"])


def choose(node: Node, backend: str) -> None:
    for name in ("iptables", "ip6tables"):
        node.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-{backend}"])


@pytest.mark.lab
def test_an_alternative_that_was_flipped(node_of_a_cluster: Node) -> None:
    wanted = ["inventory", "--data", "iptables_backend=nft", "--limit", "node-0"]
    done = gate(*wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    choose(node_of_a_cluster, "legacy")
    done = gate(*wanted)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "DRIFT node-0: iptables is nft\n" in done.stdout
    choose(node_of_a_cluster, "nft")
    assert gate(*wanted).returncode == 0


@pytest.mark.lab
def test_a_backend_without_a_tool_does_not_keep_dnsmasq_from_being_healed(
    healed: Lab, node_of_a_cluster: Node, pyinfra: Run, tmp_path: Path
) -> None:
    """What a container with its own iptables, or a module, leaves on a host that has tools for the other one only."""
    node, options = node_of_a_cluster, ["--data", "iptables_backend=nft", "--limit", "node-0"]
    healed.inject("dnsmasq-except-cilium", "node-0")
    load(node, "iptables-legacy")
    before = save(node, "iptables-legacy")
    node.run(["mv", "/usr/sbin/iptables-legacy-save", "/usr/sbin/ip6tables-legacy-save", "/opt/"])
    unknown = "node-0: iptables is left alone: there is no iptables-legacy-save"

    done = gate("inventory", *options)
    assert done.returncode == 1 and f"DRIFT node-0: {DNSMASQ}\n" in done.stdout, done.stdout + done.stderr
    assert f"ERROR {unknown}" in done.stdout
    said = pyinfra("inventory", "fact", "facts.snapshot.NodeSnapshot", "--json").stdout
    (tmp_path / "fleet.json").write_text(said)
    done = gate("--snapshots", str(tmp_path), *options[:2])
    assert done.returncode == 1 and f"ERROR {unknown}" in done.stdout, done.stdout + done.stderr

    done = pyinfra("-y", "inventory", "deploys/fix_dns.py", *options)
    assert done.returncode == 0, done.stderr
    assert f"{unknown}, and what legacy holds here is not known (tables: " in done.stderr
    assert all(served(node).values())
    node.run(["mv", "/opt/iptables-legacy-save", "/opt/ip6tables-legacy-save", "/usr/sbin/"])
    assert save(node, "iptables-legacy") == before
