"""iptables backends that differ: between nodes, between families, and between what runs and what is left behind."""

from __future__ import annotations

from pathlib import Path

from lab.faults.fault import ClusterFault, expect_lost
from lab.host import LabError
from lab.kubernetes import cluster, kube_proxy, nodes
from lab.kubernetes.plan import CLUSTER
from lab.places import Node
from lab.plan import plan_nodes
from lab.state import State

# What a node is like that has never known the legacy backend: Debian's default, in which nft has the higher priority.
_AS_BOOTED_ON_NFT = """
systemctl stop kube-proxy.service kubelet.service
ipvsadm --clear
ip link delete kube-ipvs0
for tool in iptables ip6tables; do
    "$tool-legacy-save" | grep -v KUBE- | "$tool-legacy-restore"
    update-alternatives --quiet --auto "$tool"
done
ipset destroy
conntrack -F 2>/dev/null
for table in nat mangle filter raw; do modprobe --remove --quiet "iptable_$table" "ip6table_$table"; done
modprobe --remove --quiet ip_tables ip6_tables
true
"""

_V6_AS_BOOTED_ON_NFT = """
systemctl stop kubelet.service
ip6tables-legacy-save | grep -v KUBE- | ip6tables-legacy-restore
modprobe --remove --quiet ip6table_mangle ip6table_nat ip6table_filter ip6_tables
update-alternatives --quiet --auto ip6tables
systemctl start kubelet.service
"""

_TO_LEGACY = (
    'for tool in iptables ip6tables; do update-alternatives --quiet --set "$tool" "/usr/sbin/$tool-legacy"; done'
)

_STALE_TARGETS = "iptables-nft-save -t nat 2>/dev/null | grep -c -- '--to-destination .*:53$'"


def _mixed(record: State, node: Node) -> str:
    programs = Path(record.programs)
    kube_proxy.set_mode(node, "iptables")
    node.run(["sh", "-c", _AS_BOOTED_ON_NFT])
    kube_proxy.restart(node)
    before = cluster.resolvers(programs)
    kube_proxy.wait(node, f'[ "$({_STALE_TARGETS})" -eq {2 * len(before)} ]', "kube-proxy writes no DNAT into nft")
    # The node is provisioned anew, without a reboot. Nothing cleans the other backend, and nothing is lost yet.
    node.run(["sh", "-c", _TO_LEGACY])
    kube_proxy.set_mode(node, "ipvs")
    kube_proxy.restart(node)
    kube_proxy.expect_real_servers(node, before)
    source, target = _movable(record, node)
    nodes.move_resolver(record, source, target)
    after = cluster.resolvers(programs)
    kube_proxy.expect_real_servers(node, after)
    lost = expect_lost(node, 8, 23, queries=30)
    dead = ", ".join(sorted(set(before) - set(after)))
    return f"{lost}; IPVS has {' and '.join(sorted(after))}, and DNAT left in nft still leads to {dead}"


def _movable(record: State, node: Node) -> tuple[str, str]:
    """A node whose resolver pod can go, preferably not `node` itself, and one where it can go to."""
    addresses = cluster.resolvers(Path(record.programs))
    holding = [each.name for each in plan_nodes(record.nodes) if each.pod("coredns").address in addresses]
    free = [each.name for each in plan_nodes(record.nodes) if each.name not in holding]
    if not free:
        raise LabError("every node has a resolver pod: none can move")
    return sorted(holding, key=lambda name: name == node.name)[0], free[0]


def _node_on_nft(record: State, node: Node) -> str:
    node.run(["sh", "-c", _AS_BOOTED_ON_NFT])
    kube_proxy.restart(node)
    kube_proxy.expect_real_servers(node, cluster.resolvers(Path(record.programs)))
    kube_proxy.wait(node, "iptables-nft-save 2>/dev/null | grep -q '^:KUBE-SERVICES'", "nothing is written into nft")
    if "KUBE-" in node.run(["sh", "-c", "iptables-legacy-save; ip6tables-legacy-save"]).stdout:
        raise LabError(f"{node.name} still has rules of Kubernetes in the legacy backend")
    return f"{_version(node, 'iptables')} in auto mode; {expect_lost(node, 0, 0, queries=10)}"


def _ip6tables_on_nft(_: State, node: Node) -> str:
    node.run(["sh", "-c", _V6_AS_BOOTED_ON_NFT])
    kube_proxy.wait(
        node, "ip6tables-nft-save 2>/dev/null | grep -q '^:KUBE-IPTABLES-HINT'", "no hint is written into nft for IPv6"
    )
    four, six = _version(node, "iptables"), _version(node, "ip6tables")
    if "legacy" not in four or "nf_tables" not in six:
        raise LabError(f"the fault is not live: {four}, {six}")
    return f"{four}, {six}"


def _stale_hint(_: State, node: Node) -> str:
    node.run(["ip6tables-nft", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
    if "KUBE-" in node.run(["iptables-nft-save"]).stdout:
        raise LabError("there are rules of Kubernetes in nft for IPv4 as well")
    return f"KUBE-IPTABLES-HINT in nft for IPv6 only, beside {_version(node, 'iptables')}"


def _version(node: Node, tool: str) -> str:
    return node.run([tool, "-V"]).stdout.strip()


FAULTS = (
    ClusterFault(
        "mixed-backends",
        f"the incident: DNAT of an earlier life left in nft, kube-proxy in IPVS mode on legacy; about half of the "
        f"questions to {CLUSTER.dns_service} are lost",
        _mixed,
    ),
    ClusterFault(
        "node-on-nft", "one node on nft in auto mode beside legacy nodes (loses nothing by itself)", _node_on_nft
    ),
    ClusterFault("ip6tables-on-nft", "iptables on legacy, ip6tables left on nft", _ip6tables_on_nft),
    ClusterFault("stale-hint", "kubelet's hint chain left in nft, for IPv6 only", _stale_hint),
)
