"""The diagnosis as a user gets it: one verdict per incident on real nodes, the same offline, nothing left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from pyinfra.api.host import Host

from deploys import policy as policies
from deploys.exits import Exit
from deploys.look import look, look_back
from lab.api import Lab
from lab.places import Node
from probes.hops import ROUNDS
from tests.conftest import Run
from tests.deploys.nodes import state

pytestmark = pytest.mark.lab

VERIFY = ("-y", "inventory", "deploys/verify.py")
DIAGNOSE = ("-y", "inventory", "deploys/diagnose.py")


def said(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON report on standard output, and nothing else there."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_a_healthy_fleet_has_no_verdict(healed: Lab, pyinfra: Run) -> None:
    # Somebody else's dnsmasq, with /dev/null as its configuration file, is no fault.
    healed.inject("second-dnsmasq-networkmanager", "node-1")
    done = pyinfra(*DIAGNOSE, "--data", "json=-")
    assert done.returncode == Exit.WELL, done.stderr
    diagnosis = said(done)
    assert diagnosis["verdicts"] == []
    assert {hop["state"] for hop in diagnosis["hops"]} == {"ok"}
    assert {hop["node"] for hop in diagnosis["hops"]} == {node.name for node in healed.nodes}


def test_the_incident_is_one_verdict_live_and_replayed(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0")
    before = {each.name: state(each) for each in healed.nodes}
    kept = tmp_path / "bundle"
    done = pyinfra(*DIAGNOSE, "--data", "json=-", "--data", f"bundle={kept}")
    assert done.returncode == Exit.NOT_WELL, done.stderr
    diagnosis = said(done)
    (verdict,) = diagnosis["verdicts"]
    client, coredns = (healed.node("node-0").pod(name).address for name in ("client", "coredns"))
    assert (verdict["check"], verdict["culprits"], verdict["certainty"]) == ("DNSMASQ-001", ["node-0"], "certain")
    assert "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)" in verdict["sentence"]
    assert verdict["hop"] == f"node-0/pod {coredns}/172.25.4.1:53"
    # The client asks CoreDNS, which asks this dnsmasq.
    assert {f"node-0/pod {client}", f"node-0/pod {coredns}"} <= set(verdict["affected"])
    assert all(each.startswith("node-0/pod") for each in verdict["affected"])
    assert verdict["fix"] == "pyinfra inventory deploys/fix_dns.py -y"
    assert "DNSMASQ-003" in {out["check"] for out in verdict["ruled_out"]}
    for each in healed.nodes:
        assert state(each) == before[each.name]

    # Offline: the nodes are not asked, whatever has become of them.
    healed.heal("node-0")
    again = pyinfra("-y", "@local", "deploys/diagnose.py", "--data", "json=-", "--data", f"replay={kept}")
    assert again.returncode == Exit.NOT_WELL, again.stderr
    assert said(again) == diagnosis

    # The repair, held against what was.
    earlier = tmp_path / "before.json"
    earlier.write_text(done.stdout)
    after = pyinfra(*DIAGNOSE, "--data", f"before={earlier}", "--data", "markdown=-")
    assert after.returncode == Exit.WELL, after.stderr
    _, _, compared = after.stdout.partition("## Before and after")
    assert "172.25.4.1" in compared and "| 100% lost" in compared and "| 0% lost" in compared


DATABASE = "172.26.2.130"

#: A pod beside the lab's own, on the same way; $1 is its address, $2 cilium_host's.
_POD = """
set -eu
ip netns add cni-database
ip link add lxcdatabase type veth peer name eth0 netns cni-database
ip link set lxcdatabase up
mac() { ip $1 -br link show dev "$2" | awk '{print $3}'; }
ip neigh replace "$1" lladdr "$(mac "-n cni-database" eth0)" nud permanent dev cilium_host
tc qdisc add dev lxcdatabase clsact
tc filter add dev cilium_host egress protocol ip prio 7 u32 match ip dst "$1/32" action mirred egress redirect \\
    dev lxcdatabase
tc filter add dev lxcdatabase ingress protocol ip u32 match u32 0 0 action mirred ingress redirect dev cilium_host
ip -n cni-database -batch - <<BATCH
link set lo up
link set eth0 up
address add $1/32 dev eth0
neigh replace $2 lladdr $(mac "" lxcdatabase) nud permanent dev eth0
route add $2 dev eth0 scope link
route add default via $2 dev eth0
BATCH
systemd-run --quiet --unit=pod-database --slice=kubepods-besteffort.slice \\
    -p NetworkNamespacePath=/run/netns/cni-database \\
    -p BindReadOnlyPaths=/etc/pods/client/resolve:/run/systemd/resolve sleep infinity
"""
_NO_POD = """
systemctl stop pod-database
tc filter delete dev cilium_host egress prio 7
ip neigh delete "$1" dev cilium_host
ip netns delete cni-database
"""
#: Default-deny, without DNS.
_POLICY = """
table netdev netpol {
    chain egress { type filter hook egress device "eth0" priority 0; policy drop; }
}
"""


@pytest.fixture
def database(healed: Lab) -> Iterator[Node]:
    """node-0 with a second client pod, at DATABASE, in the namespace cni-database."""
    lab_node = healed.node("node-0")
    try:
        lab_node.run(["sh", "-c", _POD, "sh", DATABASE, lab_node.plan.cilium_host])
        yield lab_node
    finally:
        lab_node.run(["sh", "-c", _NO_POD, "sh", DATABASE], check=False)


def test_a_fault_of_one_pods_link_is_an_incident_beside_another_pod(healed: Lab, database: Node, pyinfra: Run) -> None:
    healed.inject("rp-filter-strict", "node-0")
    diagnosis = said(pyinfra(*DIAGNOSE, "--data", "json=-"))
    (verdict,) = diagnosis["verdicts"]
    client, coredns = (database.pod(name).address for name in ("client", "coredns"))
    assert (verdict["check"], verdict["hop"]) == ("KERNEL-001", f"node-0/pod {client}/{coredns}:53")
    states = {one["id"]: one["state"] for one in diagnosis["hops"]}
    assert (states[verdict["hop"]], states[f"node-0/pod {DATABASE}/{coredns}:53"]) == ("loses", "ok")


def test_a_pod_that_may_not_ask_is_no_incident(database: Node, pyinfra: Run) -> None:
    """Beside one that is answered; where that one is not answered either, it is one."""
    client, coredns = (database.pod(name) for name in ("client", "coredns"))
    hop = f"node-0/pod {DATABASE}/{coredns.address}:53"
    try:
        well = pyinfra(*DIAGNOSE, "--data", "json=-")
        assert well.returncode == Exit.WELL, well.stderr
        assert {one["id"]: one["state"] for one in said(well)["hops"]}[hop] == "ok"
        database.run(["ip", "netns", "exec", "cni-database", "nft", "-f", "-"], stdin=_POLICY)
        kept_out = pyinfra(*DIAGNOSE, "--data", "json=-")
        assert kept_out.returncode == Exit.WELL, kept_out.stderr
        diagnosis = said(kept_out)
        assert diagnosis["verdicts"] == []
        assert {one["id"] for one in diagnosis["hops"] if one["state"] != "ok"} == {hop}
        assert any(line.startswith(f"node-0/pod {DATABASE}: not answered at") for line in diagnosis["unseen"])
        proven = pyinfra(*VERIFY)
        assert proven.returncode == Exit.WELL, proven.stderr
        assert f"pod {DATABASE}" in proven.stderr and "a NetworkPolicy, as it seems" in proven.stderr
        client.run(["nft", "-f", "-"], stdin=_POLICY)
        lost = pyinfra(*DIAGNOSE, "--data", "json=-")
        assert lost.returncode == Exit.NOT_WELL, lost.stderr
        found = {one["id"] for one in said(lost)["hops"] if one["state"] == "loses"}
        assert found == {hop, f"node-0/pod {client.address}/{coredns.address}:53"}
        assert said(lost)["verdicts"]
    finally:
        client.run(["nft", "delete", "table", "netdev", "netpol"], check=False)


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "is no diagnosis: it is not JSON"), ('{"format": 1, "hops": [{"id": 1}]}', "is no diagnosis: hops[0]")],
)
def test_what_is_no_earlier_report_is_refused(pyinfra: Run, tmp_path: Path, text: str, why: str) -> None:
    earlier = tmp_path / "before.json"
    earlier.write_text(text)
    done = pyinfra("-y", "@local", "deploys/diagnose.py", "--data", f"before={earlier}")
    assert done.returncode == Exit.NOT_WELL
    assert f"--data before={earlier}: {why}" in done.stderr + done.stdout


def test_two_faults_on_two_nodes_are_two_verdicts(healed: Lab, pyinfra: Run) -> None:
    healed.inject("dnsmasq-interface-bond0", "node-0")
    healed.inject("upstream-dead", "node-2")
    diagnosis = said(pyinfra(*DIAGNOSE, "--data", "json=-"))
    found = {verdict["check"]: verdict for verdict in diagnosis["verdicts"]}
    assert {check: verdict["culprits"] for check, verdict in found.items()} == {
        "DNSMASQ-001": ["node-0"],
        "": ["node-2"],
    }
    assert "interface=bond0" in found["DNSMASQ-001"]["sentence"]
    assert "dnsmasq of node-2 -> 10.10.0.21:53" in found[""]["sentence"]
    assert found[""]["certainty"] == "likely"


def test_each_node_is_entered_a_few_times_only(
    healed: Lab, reached_all: list[Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    execs: list[str] = []
    real = paramiko.SSHClient.exec_command

    def counted(self: paramiko.SSHClient, command: str, *args: object, **kwargs: object) -> object:
        execs.append(command)
        return real(self, command, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(paramiko.SSHClient, "exec_command", counted)
    policy = policies.of(reached_all[0])
    seen = look(reached_all, [], policy)
    # One snapshot, the rounds of questions, and the counters.
    assert len(execs) <= (1 + ROUNDS + 1) * len(reached_all)
    before = len(execs)
    look_back(reached_all, seen, seen.evidence["hops"], policy)
    assert len(execs) - before == len(reached_all)
