"""The second incident from end to end on real kube-proxies: seen, named, healed, proven, nobody else's rule moved."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from lab.api import Lab
from lab.kubernetes import health
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.places import Node
from tests.conftest import Run
from tests.kubernetes.flows import connection, load
from tests.operations.rules import is_owned, others, saves

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]

FIX = ("inventory", "deploys/fix_dns.py")
# Nodes that have a fault each are healed in one wave.
AT_ONCE = (*FIX, "-y", "--data", "canary_nodes=3")

_STATE = r"""
for save in iptables-nft-save iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save; do
    echo "# $save"; $save 2>/dev/null | sed -e '/^#/d' -e 's/ \[[0-9:]*\]$//'
done
nft list tables
for name in iptables ip6tables arptables ebtables; do update-alternatives --query $name; done
ipvsadm -Sn | sort
ip -o address show dev kube-ipvs0
ipset list -n | sort
cut -d' ' -f1 /proc/modules | sort
systemctl show dnsmasq kube-proxy kubelet -p MainPID,ActiveEnterTimestampMonotonic
sysctl -a 2>/dev/null | grep -e '^net.ipv4.vs' -e conntrack_max
ls /var/lib/dnsmend /etc/sysctl.d 2>/dev/null
conntrack -L -p tcp --dport 7777 2>/dev/null | grep -c ASSURED; true
"""


def seen(node: Node) -> list[str]:
    """Rules, alternatives, IPVS, sets, modules, services, settings and a long-lived flow, as lines."""
    return node.run(["sh", "-c", _STATE]).stdout.splitlines()


def lost(node: Node, queries: int, *, tcp: bool = False) -> int:
    return health.lost(node.pod("client"), CLUSTER.dns_service, SAMPLE, queries=queries, tcp=tcp)


def ipvs_connections(node: Node) -> int:
    table = node.run(["ipvsadm", "-Ln", "--stats", "--exact"]).stdout
    found = re.search(rf"^UDP +{re.escape(CLUSTER.dns_service)}:53 +(\d+)", table, re.MULTILINE)
    assert found, table
    return int(found[1])


def named(pyinfra: Run, tmp_path: Path) -> dict[str, set[str]]:
    """What the diagnosis says, by node: the root causes, and what fails or warns and follows from none of them."""
    file = tmp_path / "diagnosis.json"
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={file}", timeout=400)
    assert file.exists(), done.stderr
    diagnosis = json.loads(file.read_text())
    found: dict[str, set[str]] = {}
    explained = {each for verdict in diagnosis["verdicts"] for each in verdict["explained"]}
    for verdict in diagnosis["verdicts"]:
        for culprit in verdict["culprits"] or verdict["affected"]:
            found.setdefault(culprit, set()).add(verdict["check"] or verdict["sentence"])
    for finding in diagnosis["findings"]:
        mine = f"{finding['check']} {finding['node']}"
        if finding["status"] in ("fail", "warn") and mine not in explained:
            found.setdefault(finding["node"], set()).add(finding["check"])
        # A node that is in trouble may not tell everything; any other one has to.
        if finding["status"] == "unknown":
            found.setdefault(finding["node"], {finding["check"]})
    return found


def test_the_incident_is_healed(healed: Lab, pyinfra: Run) -> None:
    """Half of the queries lost, then none; the foreign rules of both backends are what they were, in their order."""
    node, other = healed.node("node-0"), healed.node("node-1")
    healed.inject("foreign-rules", node.name)
    healed.inject("mixed-backends", node.name)
    assert 16 <= lost(node, 60) <= 44
    with connection(node, other):
        before = {each.name: seen(each) for each in healed.nodes}
        rules = saves(node)
        assert any(is_owned(line) for line in rules["iptables-nft"])
        assert all(len(others(lines)) > 3 for lines in rules.values())
        firewalld = node.run(["nft", "list", "table", "inet", "firewalld"]).stdout

        dry = pyinfra(*FIX, "--dry", timeout=400)
        assert dry.returncode == 0, dry.stderr
        for step in ("kube-proxy writes its rules anew", "no stale rule in nft", "forget where DNS went"):
            assert step in dry.stderr
        for command in (
            "iptables-nft-restore --noflush, table nat:",
            "-D PREROUTING .*-j KUBE-SERVICES",
            "-F and -X: .*KUBE-SERVICES.* KUBE-SEP-",
            "systemctl restart kube-proxy.service",
        ):
            assert re.search(command, dry.stderr), command
        assert {each.name: seen(each) for each in healed.nodes} == before

        done = pyinfra(*FIX, "-y", timeout=600)
        assert done.returncode == 0, done.stderr
        after = saves(node)
        for backend in ("iptables-nft", "ip6tables-nft"):
            assert not any(is_owned(line) for line in after[backend])
        assert {name: others(lines) for name, lines in after.items()} == {
            name: others(lines) for name, lines in rules.items()
        }
        assert node.run(["nft", "list", "table", "inet", "firewalld"]).stdout == firewalld
    for each in healed.nodes:
        for tool in ("iptables", "ip6tables"):
            query = each.run(["update-alternatives", "--query", tool]).stdout
            assert "Status: manual\n" in query and f"Value: /usr/sbin/{tool}-legacy\n" in query
        counted = ipvs_connections(each)
        assert [lost(each, 200), lost(each, 200, tcp=True)] == [0, 0]
        # The kernel adds them up every two seconds, a busy emulated one later.
        until = time.monotonic() + 20
        while ipvs_connections(each) - counted < 200 - 4 and time.monotonic() < until:
            time.sleep(1)
        assert ipvs_connections(each) - counted >= 200 - 4
    settled = {each.name: seen(each) for each in healed.nodes}
    again = pyinfra(*FIX, "-y", timeout=600)
    assert again.returncode == 0, again.stderr
    assert "Success" not in again.stderr.split("--> Results:")[0]
    assert {each.name: seen(each) for each in healed.nodes} == settled


def test_a_healthy_fleet_loses_nothing_and_is_left_alone(healed: Lab, pyinfra: Run) -> None:
    """While every node's pod asks ten times a second."""
    before = {each.name: seen(each) for each in healed.nodes}
    with load(healed.nodes) as asked:
        done = pyinfra(*FIX, "-y", timeout=600)
    assert done.returncode == 0, done.stderr
    for counts in asked.counts.values():
        assert counts["sent"] > 100
        assert counts == {"sent": counts["sent"], "answered": counts["sent"], "lost": 0}
    assert {each.name: seen(each) for each in healed.nodes} == before


#: Faults that can be had side by side, each on its node, and what is said of that node: nothing else, anywhere.
NAMED = (
    {
        "node-0": ("vip-missing", {"IPVS-005"}),
        "node-1": ("dead-real-server", {"IPVS-004"}),
        "node-2": ("udp-service-missing", {"IPVS-002"}),
    },
    {"node-1": ("kube-proxy-stopped", {"KUBEPROXY-001"}), "node-2": ("conntrack-full", {"CONNTRACK-001"})},
    {"node-0": ("stale-hint", {"IPTABLES-004"}), "node-2": ("foreign-rules", set())},
    {"node-1": ("node-on-nft", {"IPTABLES-001"}), "node-0": ("stuck-udp-client", {"IPVS-006"})},
    {"node-1": ("ip6tables-on-nft", {"IPTABLES-001"})},
)


@pytest.mark.parametrize("group", NAMED, ids=lambda group: "+".join(fault for fault, _ in group.values()))
def test_each_fault_is_named_by_its_own_check_and_healed(
    healed: Lab, pyinfra: Run, tmp_path: Path, group: dict[str, tuple[str, set[str]]]
) -> None:
    for name, (fault, _) in group.items():
        healed.inject(fault, name)
    assert named(pyinfra, tmp_path) == {name: checks for name, (_, checks) in group.items() if checks}
    done = pyinfra(*AT_ONCE, timeout=600)
    assert done.returncode == 0, done.stderr
    assert named(pyinfra, tmp_path) == {}
    assert Counter({each.name: lost(each, 20) for each in healed.nodes}).total() == 0


def test_a_sync_that_fails_is_named_and_stops_the_run(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    """A restart does not help where kube-proxy cannot write: said so, before any other node is touched."""
    healed.inject("sync-failing", "node-0")
    assert named(pyinfra, tmp_path) == {"node-0": {"KUBEPROXY-002"}}
    done = pyinfra(*AT_ONCE, timeout=600)
    assert done.returncode == 1
    assert "kube-proxy has not synced yet, 90 s after the restart" in done.stderr
    assert lost(healed.node("node-0"), 20) == 0
