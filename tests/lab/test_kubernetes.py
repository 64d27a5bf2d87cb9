"""The Kubernetes lab: a real kube-proxy on real IPVS, each fault of the second incident, and nothing left behind."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import cgroups, faults, host, lifecycle, state
from lab.api import Lab
from lab.host import LabError
from lab.kubernetes import cluster, health, kube_proxy, nodes
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.plan import RESOLVERS

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]

_CLONE_NEWNET = 0x40000000


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def traces(directory: str, label: str) -> dict[str, object]:
    """What the lab could leave behind: its mounts and processes, and all of the network that it was started on."""
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                commands.append((entry / "cmdline").read_text())
    return {
        "processes": [command for command in commands if directory in command],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if directory in line],
        "control groups": list(Path("/sys/fs/cgroup").glob(f"**/{label}")),
        "directory": Path(directory).exists(),
        **{
            part: json.loads(host.run(["ip", "-json", *part.split(), "show"]).stdout or "[]")
            for part in ("link", "address", "route", "rule")
        },
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A Kubernetes lab of this module's own, on a network of its own: another lab may be up beside it."""
    libc = ctypes.CDLL(None, use_errno=True)
    machine_network = os.open("/proc/self/ns/net", os.O_RDONLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DNSMEND_LAB_DIR", str(tmp_path_factory.mktemp("k") / "lab"))
        _checked(libc.unshare(_CLONE_NEWNET))
        try:
            before = traces(str(host.state_dir()), cgroups.label())
            try:
                lifecycle.up(3, kubernetes=True)
                yield Lab.attach()
            finally:
                lifecycle.down()
            assert traces(str(host.state_dir()), cgroups.label()) == before
        finally:
            _checked(libc.setns(machine_network, _CLONE_NEWNET))
            os.close(machine_network)


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    yield lab
    if any(lab.record.faults.values()):
        lab.heal()


def resolvers(lab: Lab) -> tuple[str, ...]:
    return cluster.resolvers(Path(lab.record.programs))


def test_pods_and_hosts_are_answered_by_the_service(lab: Lab) -> None:
    for node in lab.nodes:
        for place in (node, node.pod("client")):
            for tcp in (False, True):
                answer = place.ask(CLUSTER.dns_service, SAMPLE, tcp=tcp)
                assert answer.addresses == (CLUSTER.api_service,), (place.name, tcp)
        for resolver in RESOLVERS:
            answer = node.pod("client").ask(CLUSTER.dns_service, resolver.sample)
            assert answer.addresses == (resolver.answer,)
        assert f"inet {CLUSTER.dns_service}/32" in node.run(["ip", "address", "show", "dev", "kube-ipvs0"]).stdout


def test_every_node_is_on_legacy_by_hand(lab: Lab) -> None:
    for node in lab.nodes:
        for tool in ("iptables", "ip6tables"):
            query = node.run(["update-alternatives", "--query", tool]).stdout
            assert "Status: manual" in query
            assert f"Value: /usr/sbin/{tool}-legacy" in query
            assert ":KUBE-IPTABLES-HINT" in node.run([f"{tool}-legacy-save"]).stdout
            assert "KUBE-" not in node.run([f"{tool}-nft-save"]).stdout
        assert ":KUBE-SERVICES" in node.run(["iptables-legacy-save"]).stdout


def test_the_api_server_knows_the_cluster(lab: Lab) -> None:
    found = json.loads(lab.kubectl(["get", "nodes", "--output=json"]).stdout)
    assert [each["metadata"]["name"] for each in found["items"]] == ["node-0", "node-1", "node-2"]
    assert resolvers(lab) == ("172.26.2.53", "172.26.3.53")
    lab.kubectl(["cordon", "node-1"])
    assert "SchedulingDisabled" in lab.kubectl(["get", "node", "node-1"]).stdout
    lab.kubectl(["uncordon", "node-1"])
    with pytest.raises(LabError, match="NotFound"):
        lab.kubectl(["get", "node", "node-9"])


def test_a_command_in_a_node(lab: Lab) -> None:
    node = lab.node("node-0")
    done = node.run(["sh", "-c", "cat; echo error >&2; exit 3"], stdin="line\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("line\n", "error\n", 3)
    assert node.run(["no-such-command"], check=False).returncode == 127
    node.write("/root/a file", "text\n", 0o640)
    assert node.read("/root/a file") == "text\n"
    assert node.run(["stat", "-c", "%a", "/root/a file"]).stdout == "640\n"
    node.remove("/root/a file", "/root/not there")
    assert node.run(["test", "-e", "/root/a file"], check=False).returncode == 1
    assert abs(float(node.run(["date", "+%s"]).stdout) - float(host.run(["date", "+%s"]).stdout)) <= 3


def test_pyinfra_reaches_every_node(lab: Lab) -> None:
    argv = [sys.executable, "-m", "pyinfra", "-y", "inventories/lab.py", "exec", "--", "cat /proc/version"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("Linux version") == len(lab.nodes)


def test_a_second_up_says_that_it_is_up(lab: Lab) -> None:
    lifecycle.up(3, kubernetes=True)
    with pytest.raises(LabError, match="with Kubernetes is up"):
        lifecycle.up(3)
    with pytest.raises(LabError, match="no endpoint routes"):
        lifecycle.up(3, kubernetes=True, endpoint_routes=True)


def test_ipvs_follows_a_pod_that_moves(lab: Lab) -> None:
    try:
        assert lab.move_coredns_pod("node-1", "node-2").address == "172.26.4.53"
        assert set(resolvers(lab)) == {"172.26.2.53", "172.26.4.53"}
        with pytest.raises(LabError, match="no pod to move"):
            lab.move_coredns_pod("node-1", "node-2")
        for node in lab.nodes:
            kube_proxy.expect_real_servers(node, resolvers(lab))
            assert health.lost(node.pod("client"), CLUSTER.dns_service, SAMPLE, queries=20) == 0
    finally:
        lab.move_coredns_pod("node-2", "node-1")
        for node in lab.nodes:
            kube_proxy.expect_real_servers(node, resolvers(lab))


# Faults that can be had side by side, each on its node: to heal takes longer than to break.
GROUPS = (
    {"mixed-backends": "node-0"},
    {"vip-missing": "node-0", "dead-real-server": "node-1", "udp-service-missing": "node-2"},
    {"sync-failing": "node-0", "kube-proxy-stopped": "node-1", "conntrack-full": "node-2"},
    {"stale-hint": "node-0", "ip6tables-on-nft": "node-1", "foreign-rules": "node-2"},
    {"node-on-nft": "node-1", "stuck-udp-client": "node-0"},
)


def test_every_fault_is_tried() -> None:
    tried = [fault for group in GROUPS for fault in group]
    assert sorted(tried) == sorted(faults.CLUSTER_FAULTS)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "+".join(group))
def test_faults_fire_and_are_healed(lab: Lab, healed: Lab, group: dict[str, str]) -> None:
    for fault, node in group.items():
        assert f"{node}: {fault} is live" in lab.inject(fault, node)
    record = state.load()
    assert record is not None
    assert {node: names for node, names in record.faults.items() if names} == {
        node: [fault] for fault, node in group.items()
    }
    lab.heal()
    assert resolvers(lab) == ("172.26.2.53", "172.26.3.53")
    for each in lab.nodes:
        assert nodes.trouble(lab.record, each.plan) == ""
        assert "KUBE-" not in each.run(["sh", "-c", "iptables-nft-save; ip6tables-nft-save"]).stdout


def test_the_faults_of_the_first_incident_work_here_too(lab: Lab, healed: Lab) -> None:
    assert "UDP timeout, TCP closed" in lab.inject("dnsmasq-except-cilium", mode="bind-dynamic")
    client = lab.node("node-1").pod("client")
    # Half of the resolver pods ask the node whose dnsmasq drops them.
    assert health.lost(client, CLUSTER.dns_service, SAMPLE, queries=4) == 0


def test_a_cluster_fault_needs_a_cluster(lab: Lab) -> None:
    without = Lab(state.State(nodes=3, root=lab.record.root, machines=lab.record.machines))
    with pytest.raises(LabError, match="no Kubernetes"):
        without.kubectl(["get", "nodes"])
    with pytest.raises(LabError, match="does not depend on how dnsmasq binds"):
        lab.inject("vip-missing", mode="wildcard")
