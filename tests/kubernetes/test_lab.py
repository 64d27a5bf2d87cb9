"""The Kubernetes lab: a real kube-proxy on real IPVS, each fault of the second incident, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab import faults, host, lifecycle, state
from lab.api import Lab
from lab.host import LabError
from lab.kubernetes import cluster, health, kube_proxy, nodes
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.plan import RESOLVERS

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]


def resolvers(kube_lab: Lab) -> tuple[str, ...]:
    return cluster.resolvers(Path(kube_lab.record.programs))


def test_pods_and_hosts_are_answered_by_the_service(kube_lab: Lab) -> None:
    for node in kube_lab.nodes:
        for place in (node, node.pod("client")):
            for tcp in (False, True):
                answer = place.ask(CLUSTER.dns_service, SAMPLE, tcp=tcp)
                assert answer.addresses == (CLUSTER.api_service,), (place.name, tcp)
        for resolver in RESOLVERS:
            answer = node.pod("client").ask(CLUSTER.dns_service, resolver.sample)
            assert answer.addresses == (resolver.answer,)
        assert f"inet {CLUSTER.dns_service}/32" in node.run(["ip", "address", "show", "dev", "kube-ipvs0"]).stdout


def test_every_node_is_on_legacy_by_hand(kube_lab: Lab) -> None:
    for node in kube_lab.nodes:
        for tool in ("iptables", "ip6tables"):
            query = node.run(["update-alternatives", "--query", tool]).stdout
            assert "Status: manual" in query
            assert f"Value: /usr/sbin/{tool}-legacy" in query
            assert ":KUBE-IPTABLES-HINT" in node.run([f"{tool}-legacy-save"]).stdout
            assert "KUBE-" not in node.run([f"{tool}-nft-save"]).stdout
        assert ":KUBE-SERVICES" in node.run(["iptables-legacy-save"]).stdout


def test_the_api_server_knows_the_cluster(kube_lab: Lab) -> None:
    found = json.loads(kube_lab.kubectl(["get", "nodes", "--output=json"]).stdout)
    assert [each["metadata"]["name"] for each in found["items"]] == ["node-0", "node-1", "node-2"]
    assert resolvers(kube_lab) == ("172.26.2.53", "172.26.3.53")
    kube_lab.kubectl(["cordon", "node-1"])
    assert "SchedulingDisabled" in kube_lab.kubectl(["get", "node", "node-1"]).stdout
    kube_lab.kubectl(["uncordon", "node-1"])
    with pytest.raises(LabError, match="NotFound"):
        kube_lab.kubectl(["get", "node", "node-9"])


def test_a_command_in_a_node(kube_lab: Lab) -> None:
    node = kube_lab.node("node-0")
    done = node.run(["sh", "-c", "cat; echo error >&2; exit 3"], stdin="line\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("line\n", "error\n", 3)
    assert node.run(["no-such-command"], check=False).returncode == 127
    node.write("/root/a file", "text\n", 0o640)
    assert node.read("/root/a file") == "text\n"
    assert node.run(["stat", "-c", "%a", "/root/a file"]).stdout == "640\n"
    node.remove("/root/a file", "/root/not there")
    assert node.run(["test", "-e", "/root/a file"], check=False).returncode == 1
    assert abs(float(node.run(["date", "+%s"]).stdout) - float(host.run(["date", "+%s"]).stdout)) <= 3


def test_pyinfra_reaches_every_node(kube_lab: Lab) -> None:
    argv = [sys.executable, "-m", "pyinfra", "-y", "inventories/lab.py", "exec", "--", "cat /proc/version"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("Linux version") == len(kube_lab.nodes)


def test_a_second_up_says_that_it_is_up(kube_lab: Lab) -> None:
    lifecycle.up(3, kubernetes=True)
    with pytest.raises(LabError, match="with Kubernetes is up"):
        lifecycle.up(3)
    with pytest.raises(LabError, match="no endpoint routes"):
        lifecycle.up(3, kubernetes=True, endpoint_routes=True)


def test_ipvs_follows_a_pod_that_moves(kube_lab: Lab) -> None:
    try:
        assert kube_lab.move_coredns_pod("node-1", "node-2").address == "172.26.4.53"
        assert set(resolvers(kube_lab)) == {"172.26.2.53", "172.26.4.53"}
        with pytest.raises(LabError, match="no pod to move"):
            kube_lab.move_coredns_pod("node-1", "node-2")
        for node in kube_lab.nodes:
            kube_proxy.expect_real_servers(node, resolvers(kube_lab))
            assert health.lost(node.pod("client"), CLUSTER.dns_service, SAMPLE, queries=20) == 0
    finally:
        kube_lab.move_coredns_pod("node-2", "node-1")
        for node in kube_lab.nodes:
            kube_proxy.expect_real_servers(node, resolvers(kube_lab))


# Faults that can be had side by side, each on its node: to heal takes longer than to break.
GROUPS = (
    {"mixed-backends": "node-0"},
    {"vip-missing": "node-0", "dead-real-server": "node-1", "udp-service-missing": "node-2"},
    {"sync-failing": "node-0", "kube-proxy-stopped": "node-1", "conntrack-full": "node-2"},
    {"stale-hint": "node-0", "ip6tables-on-nft": "node-1", "foreign-rules": "node-2"},
    {"node-on-nft": "node-1", "stuck-udp-client": "node-0", "neighbours-full": "node-2"},
)


def test_every_fault_is_tried() -> None:
    tried = [fault for group in GROUPS for fault in group]
    assert sorted(tried) == sorted(faults.CLUSTER_FAULTS)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "+".join(group))
def test_faults_fire_and_are_healed(healed: Lab, group: dict[str, str]) -> None:
    for fault, node in group.items():
        assert f"{node}: {fault} is live" in healed.inject(fault, node)
    record = state.load()
    assert record is not None
    assert {node: names for node, names in record.faults.items() if names} == {
        node: [fault] for fault, node in group.items()
    }
    healed.heal()
    assert resolvers(healed) == ("172.26.2.53", "172.26.3.53")
    for each in healed.nodes:
        assert nodes.trouble(healed.record, each.plan) == ""
        assert "KUBE-" not in each.run(["sh", "-c", "iptables-nft-save; ip6tables-nft-save"]).stdout


def test_the_faults_of_the_first_incident_work_here_too(healed: Lab) -> None:
    assert "UDP timeout, TCP closed" in healed.inject("dnsmasq-except-cilium", mode="bind-dynamic")
    client = healed.node("node-1").pod("client")
    # Half of the resolver pods ask the node whose dnsmasq drops them.
    assert health.lost(client, CLUSTER.dns_service, SAMPLE, queries=4) == 0


def test_a_cluster_fault_needs_a_cluster(kube_lab: Lab) -> None:
    without = Lab(state.State(nodes=3, root=kube_lab.record.root, machines=kube_lab.record.machines))
    with pytest.raises(LabError, match="no Kubernetes"):
        without.kubectl(["get", "nodes"])
    with pytest.raises(LabError, match="does not depend on how dnsmasq binds"):
        kube_lab.inject("vip-missing", mode="wildcard")
