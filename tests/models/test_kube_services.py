"""The cluster's DNS service as the nodes know it: addresses, real servers, and the rules that take its packets."""

from __future__ import annotations

import json
from typing import cast

import pytest

from facts.interfaces import Interface
from facts.ipvs import Ipvs
from facts.kube_proxy import KubeProxy
from facts.kube_proxy_answer import Form
from facts.netfilter import Backend
from facts.pods import Pod
from facts.snapshot import Snapshot
from models import kube_services
from tests.checks.kube_fleet import (
    FIXTURES,
    VIP,
    fleet,
    incident,
    lines,
    node,
    reading,
    real_server,
    real_servers,
    set_host,
    set_rules,
    with_cilium,
)

BOTH = {"10.244.0.11:53", "10.244.0.13:53"}


def with_mode(read: Snapshot, mode: str, device: bool) -> Snapshot:
    proxy, ipvs = read["kube_proxy"]["value"], read["ipvs"]["value"]
    assert proxy and ipvs
    proxy["mode"], ipvs["device"] = mode, device
    return read


def test_the_mode() -> None:
    assert kube_services.mode(with_mode(node(), "iptables", device=True)) == "iptables"
    assert kube_services.mode(with_mode(node(), "", device=True)) == "ipvs"
    assert kube_services.mode(with_mode(node(), "", device=False)) == "iptables"
    native = with_mode(node(), "", device=False)
    native["nft_tables"] = reading(["ip kube-proxy", "ip6 kube-proxy", "ip nat"])
    assert kube_services.mode(native) == "nftables"
    bare = with_mode(node(), "", device=False)
    set_rules(bare, {})
    assert kube_services.mode(bare) == ""


def test_addresses_come_from_any_node_but_not_from_stale_rules() -> None:
    nodes = fleet()
    incident(nodes["node-0"])
    assert kube_services.vips(nodes, {}) == [VIP]
    for read in nodes.values():
        assert read["ipvs"]["value"]
        read["ipvs"]["value"]["services"] = []
    assert kube_services.vips(nodes, {}) == []
    assert kube_services.vips(nodes, {"10.96.0.10": []}) == ["10.96.0.10"]
    with_mode(nodes["node-0"], "iptables", device=False)
    assert kube_services.vips(nodes, {}) == [VIP]


CONSUL = "10.32.0.99"


def with_services(nodes: dict[str, Snapshot], vip: str, to: str, *protocols: str) -> None:
    """Every node's IPVS has one more service on port 53."""
    for read in nodes.values():
        ipvs = read["ipvs"]["value"]
        assert ipvs
        for one in [one for one in ipvs["services"] if one["protocol"] in protocols and one["address"] == VIP]:
            ipvs["services"].append({**one, "address": vip, "servers": [real_server(to)]})


def with_pod(read: Snapshot, address: str, nameserver: str, *processes: str, pid: int = 0) -> None:
    """The node has a pod with these programs."""
    pod = {**read["pods"]["value"][0], "addresses": [address], "nameservers": [nameserver], "processes": [*processes]}
    read["pods"]["value"].append(cast(Pod, {**pod, "pid": pid, "netns": pid}))


def test_of_the_services_on_port_53_the_clusters_dns_is_the_one_with_coredns_behind_it() -> None:
    nodes = fleet()
    with_services(nodes, CONSUL, "10.244.0.50", "udp", "tcp")
    with_pod(nodes["node-1"], "10.244.0.50", "172.25.4.1", "consul")
    assert kube_services.vips(nodes, {}) == [VIP, CONSUL]
    with_pod(nodes["node-2"], "10.244.0.13", "172.25.4.1", "pause", "coredns")
    assert kube_services.vips(nodes, {}) == [VIP]
    for protocol in ("udp", "tcp"):
        for read in nodes.values():
            real_servers(read, protocol)[:] = [real_server("10.244.0.12")]
    with_pod(nodes["node-0"], "10.244.0.60", VIP, "nginx")
    assert kube_services.vips(nodes, {}) == [VIP]


def test_the_clusters_dns_in_iptables_mode_is_the_one_with_coredns_behind_it() -> None:
    read = with_mode(node(), "iptables", device=False)
    rules = lines("iptables-mode-nft.txt")
    another = {VIP: CONSUL, "KUBE-SVC-": "KUBE-SVC-Z", "KUBE-SEP-": "KUBE-SEP-Z", "10.244.0.1": "10.244.0.5"}
    for line in [line for line in rules if "kube-dns:dns" in line]:
        changed = line
        for old, new in another.items():
            changed = changed.replace(old, new)
        rules.insert(rules.index(line), changed)
    set_rules(read, {("nft", 4): rules})
    assert kube_services.vips({"node-0": read}, {}) == [VIP, CONSUL]
    with_pod(read, "10.244.0.12", "172.25.4.1", "coredns")
    assert kube_services.vips({"node-0": read}, {}) == [VIP]


def test_a_service_that_no_node_has_both_protocols_of_is_another_one() -> None:
    nodes = fleet()
    with_services(nodes, CONSUL, "10.244.0.13", "udp")
    with_services(nodes, "10.32.0.98", "10.244.0.13", "tcp")
    with_pod(nodes["node-2"], "10.244.0.13", "172.25.4.1", "coredns")
    assert kube_services.vips(nodes, {}) == [VIP]
    with_pod(nodes["node-0"], "10.244.0.60", CONSUL, "nginx")
    with_pod(nodes["node-0"], "10.244.0.61", VIP, "nginx")
    assert kube_services.vips(nodes, {}) == [VIP, CONSUL]


def test_the_clusters_dns_is_judged_even_where_no_node_has_it_over_tcp() -> None:
    nodes = fleet()
    for read in nodes.values():
        ipvs = read["ipvs"]["value"]
        assert ipvs
        ipvs["services"] = [one for one in ipvs["services"] if (one["protocol"], one["port"]) != ("tcp", 53)]
    assert kube_services.vips(nodes, {}) == [VIP]


def test_the_endpoint_slices_tell_which_services_are_the_clusters_dns() -> None:
    nodes = fleet()
    with_services(nodes, CONSUL, "10.244.0.50", "udp", "tcp")
    assert kube_services.vips(nodes, {VIP: ["10.244.0.11:53"]}) == [VIP]


LAN = "192.168.10.53"


@pytest.mark.parametrize("endpoints", [{}, {VIP: ["10.244.0.11:53"], CONSUL: ["10.244.0.50:1053"], LAN: []}])
def test_of_the_services_with_coredns_behind_them_the_clusters_dns_is_the_one_that_pods_ask(
    endpoints: dict[str, list[str]],
) -> None:
    """k8s_gateway, say: a CoreDNS for the LAN, with a load balancer's address besides."""
    nodes = fleet()
    for vip in (CONSUL, LAN):
        with_services(nodes, vip, "10.244.0.50", "udp", "tcp")
    with_pod(nodes["node-1"], "10.244.0.50", VIP, "pause", "coredns")
    assert kube_services.vips(nodes, endpoints) == [VIP]
    # The nodes' own resolver is the one for the LAN: so it is that of pods with dnsPolicy Default.
    for read in nodes.values():
        assert read["resolv_conf"]["value"]
        read["resolv_conf"]["value"]["nameservers"] = [LAN]
    with_pod(nodes["node-0"], "10.244.0.61", LAN, "node-exporter")
    assert kube_services.vips(nodes, endpoints) == [VIP]
    # Where the nodes ask the cluster's DNS too, that is no reason to leave it out.
    for read in nodes.values():
        assert read["resolv_conf"]["value"]
        read["resolv_conf"]["value"]["nameservers"] = [VIP]
    nodes["node-0"]["pods"]["value"].pop()
    with_pod(nodes["node-0"], "10.244.0.60", VIP, "nginx")
    assert kube_services.vips(nodes, endpoints) == [VIP]


@pytest.mark.parametrize("asked", ["169.254.20.10", VIP])
@pytest.mark.parametrize("sliced", [False, True])
def test_behind_a_cache_on_each_node_the_service_that_the_cache_asks_counts_as_well(asked: str, sliced: bool) -> None:
    """NodeLocal DNSCache: in iptables mode it has the service's own address too, and asks kube-dns-upstream."""
    upstream = "10.32.0.98"
    nodes = fleet()
    with_services(nodes, upstream, "10.244.0.13", "udp", "tcp")
    with_pod(nodes["node-2"], "10.244.0.13", "172.25.4.1", "coredns")
    with_pod(nodes["node-0"], "10.244.0.60", asked, "nginx")
    for read in nodes.values():
        with_interface(read, "nodelocaldns", "169.254.20.10", asked)
    endpoints = {VIP: ["10.244.0.13:53"], upstream: ["10.244.0.13:53"]} if sliced else {}
    assert kube_services.vips(nodes, endpoints) == [VIP, upstream]


def with_interface(read: Snapshot, name: str, *addresses: str) -> None:
    """The node has one more interface."""
    like = next(one for one in read["interfaces"]["value"] if one["addresses"])
    own = [{**like["addresses"][0], "address": address, "scope": "global"} for address in addresses]
    read["interfaces"]["value"].append(cast(Interface, {**like, "name": name, "addresses": own}))


def without_kube_proxys_rules(nodes: dict[str, Snapshot], shape: str) -> None:
    for read in nodes.values():
        set_rules(read, {})
        read["ipvs"] = reading(Ipvs().read(["support loaded"]))
        if shape == "nftables":
            with_mode(read, "nftables", device=False)
            read["nft_tables"] = reading(["ip kube-proxy", "ip6 kube-proxy"])
        elif shape == "cilium":
            with_cilium(read)
        else:
            read["kube_proxy"] = reading(KubeProxy().read(["kubelet 900"]))
        if shape == "kube-router":
            with_interface(read, "kube-dummy-if", VIP)
        if shape == "without iptables":
            read["rulesets"] = {"state": "tool missing", "value": [], "detail": "iptables-save not found"}


@pytest.mark.parametrize("shape", ["nftables", "cilium", "ovn-kubernetes", "kube-router", "without iptables"])
def test_without_rules_of_kube_proxy_the_clusters_dns_is_what_most_pods_name(shape: str) -> None:
    nodes = fleet()
    without_kube_proxys_rules(nodes, shape)
    client = next(pod for pod in nodes["node-0"]["pods"]["value"] if pod["addresses"] == ["172.26.2.145"])
    assert kube_services.vips(nodes, {}) == []
    client["nameservers"] = [VIP]
    assert kube_services.vips(nodes, {}) == [VIP]
    assert kube_services.vips(nodes, {CONSUL: []}) == [CONSUL]
    # One that asks somebody of its own choice.
    with_pod(nodes["node-0"], "172.26.2.146", VIP, "nginx", pid=8001)
    with_pod(nodes["node-0"], "172.26.2.147", "1.1.1.1", "vpn", pid=8002)
    assert kube_services.vips(nodes, {}) == [VIP]


@pytest.mark.parametrize(
    "named",
    [
        "172.25.4.1",  # a node's dnsmasq
        "172.26.2.53",  # a pod
        "10.0.0.2",  # what the nodes ask themselves
        "10.0.0.3",  # what CoreDNS asks
        "169.254.20.10",
        "127.0.0.11",
        "fe80::1%eth0",
    ],
)
@pytest.mark.parametrize("mode", ["", "ipvs"])
def test_what_pods_name_besides_is_no_service(named: str, mode: str) -> None:
    nodes = fleet()
    without_kube_proxys_rules(nodes, "cilium")
    for read in nodes.values():
        assert read["resolved"]["value"]
        read["resolved"]["value"]["servers"] = ["10.0.0.2"]
        client = next(pod for pod in read["pods"]["value"] if pod["addresses"] == ["172.26.2.145"])
        client["nameservers"] = [named if not mode else VIP]
    with_pod(nodes["node-1"], "10.244.0.13", "10.0.0.3", "coredns")
    if mode:
        # Its table is read, and has no service on port 53: pods ask somebody outside of the cluster.
        for read in nodes.values():
            read["kube_proxy"] = node()["kube_proxy"]
    assert kube_services.vips(nodes, {}) == []


def test_where_pods_that_run_coredns_answer_for_the_cluster() -> None:
    nodes = fleet()
    with_pod(nodes["node-0"], "10.244.0.11", "172.25.4.1", "coredns", pid=8001)
    with_pod(nodes["node-1"], "10.244.0.50", "172.25.4.1", "coredns", pid=8002)
    assert kube_services.programs(nodes.values()) == ["10.244.0.11:53", "10.244.0.50:53"]
    corefiles = {8001: ".:5353 {\n    kubernetes cluster.local {\n    }\n}\n", 8002: ".:1053 {\n}\n"}
    for name, pid in (("node-0", 8001), ("node-1", 8002)):
        one = {"netns": pid, "pid": pid, "path": "/etc/coredns/Corefile", "corefile": corefiles[pid]}
        nodes[name]["coredns"] = reading([one])
    assert kube_services.programs(nodes.values()) == ["10.244.0.11:5353"]


def test_the_policy_tells_which_services_are_the_clusters_dns() -> None:
    assert kube_services.vips(fleet(), {VIP: ["10.244.0.11:53"]}, [CONSUL]) == [CONSUL]


def test_real_servers_and_those_of_the_others() -> None:
    nodes = fleet()
    real_servers(nodes["node-1"], "tcp").append(real_server("10.244.0.12", weight=0))
    assert [kube_services.end(one) for one in kube_services.servers(nodes["node-0"], VIP, "udp") or []] == sorted(BOTH)
    assert kube_services.servers(nodes["node-0"], "10.32.0.99", "udp") is None
    assert kube_services.peers("node-0", nodes, VIP, "tcp") == {"node-1": BOTH, "node-2": BOTH}
    with_mode(nodes["node-2"], "iptables", device=False)
    assert list(kube_services.peers("node-0", nodes | {"gone": None}, VIP, "tcp")) == ["node-1"]
    assert kube_services.end(real_server("fd00::11")) == "[fd00::11]:53"


def test_counted_connections() -> None:
    read = node()
    assert kube_services.connections(read, VIP) is None
    ipvs = read["ipvs"]["value"]
    assert ipvs
    for service in ipvs["services"]:
        count = 83 if service["protocol"] == "udp" else 7
        service["counters"] = {
            "connections": count,
            "in_packets": count,
            "out_packets": count,
            "in_bytes": 0,
            "out_bytes": 0,
        }
    assert kube_services.connections(read, VIP) == 83
    assert kube_services.connections(read, "10.32.0.99") is None


def test_ways_through_live_rules_only() -> None:
    read = node()
    incident(read)
    ways = kube_services.ways(read)
    assert {(way.backend, way.dnat["vip"], way.dnat["protocol"], way.dnat["to"]) for way in ways} == {
        ("nft", VIP, protocol, f"10.244.0.{pod}:53") for protocol in ("udp", "tcp") for pod in (11, 12)
    }
    unhooked = [line for line in lines("incident-iptables-nft.txt") if " -j KUBE-SERVICES" not in line]
    set_rules(read, {("nft", 4): unhooked})
    assert kube_services.ways(read) == []


def test_where_queries_ought_to_go() -> None:
    nodes = fleet()
    incident(nodes["node-0"])
    assert kube_services.targets("node-0", nodes, {}, VIP, "udp") == BOTH
    assert kube_services.targets("node-0", nodes, {VIP: ["10.244.0.14:53"]}, VIP, "udp") == {"10.244.0.14:53"}
    assert nodes["node-0"]["ipvs"]["value"]
    nodes["node-0"]["ipvs"]["value"]["services"] = []
    assert kube_services.targets("node-0", nodes, {}, VIP, "udp") == BOTH
    assert kube_services.targets("node-0", {"node-0": nodes["node-0"]}, {}, VIP, "udp") == set()


def test_where_queries_ought_to_go_in_iptables_mode() -> None:
    read = with_mode(node(), "iptables", device=False)
    set_host(read, "nft", "nft")
    stale = [line.replace("10.244.0.12:53", "10.244.9.99:53") for line in lines("iptables-mode-nft.txt")]
    set_rules(read, {("nft", 4): lines("iptables-mode-nft.txt"), ("legacy", 4): stale})
    found = kube_services.targets("node-0", {"node-0": read}, {}, VIP, "udp")
    assert found == {"10.244.0.11:53", "10.244.0.12:53"}
    with_mode(read, "nftables", device=False)
    assert kube_services.targets("node-0", {"node-0": read}, {}, VIP, "udp") == set()


@pytest.mark.parametrize(
    ("form", "backend"),
    [("systemd", "legacy"), ("k3s", "nft"), ("DaemonSet", "nft")],
)
def test_the_backend_that_kube_proxy_writes_to(form: Form, backend: Backend) -> None:
    read = node()
    set_rules(read, {("nft", 4): lines("iptables-mode-nft.txt")})
    proxy = read["kube_proxy"]["value"]
    assert proxy
    proxy["form"] = form
    assert kube_services.active(read, 4) == backend


def test_with_rules_in_both_a_container_follows_the_hints() -> None:
    read = node()
    incident(read)
    assert kube_services.active(read, 4) == "legacy"
    proxy = read["kube_proxy"]["value"]
    assert proxy
    proxy["form"] = "DaemonSet"
    assert kube_services.active(read, 4) == "nft"


def test_a_snapshot_without_the_sections_is_not_known() -> None:
    old = cast("dict[str, Snapshot]", json.loads((FIXTURES / "fleet.json").read_text()))["node-0"]
    assert not kube_services.known(old)
    assert not kube_services.known(None)
    assert kube_services.known(node())
    assert kube_services.vips({"old": old, "gone": None}, {}) == []


@pytest.mark.parametrize(
    ("word", "replaced"), [("true", True), ("strict", True), ("false", False), ("disabled", False)]
)
def test_cilium_in_kube_proxys_place(word: str, replaced: bool) -> None:
    read = node()
    proxy = read["kube_proxy"]["value"]
    assert proxy
    assert not kube_services.replaced(read)
    proxy["cilium"] = {"pid": 812, "replacement": word}
    assert kube_services.replaced(read) is replaced


K3S = ["process 700 k3s-server azNzAA==", "cgroup 0::/system.slice/k3s.service"]


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        (["kubelet 900"], False),
        (["kubelet 900", "cilium 812 false"], False),
        (["kubelet 900", "cilium 812 true"], True),
        (["kubelet 900", "cilium 812 probe"], True),
        (["unit kube-proxy.service /usr/bin/kube-proxy", "cilium 812 strict"], True),
        (["unit kube-proxy.service /usr/bin/kube-proxy", "cilium 812 partial"], False),
        (["process 700 kube-proxy azNzAA==", "cilium 812 true", "mode @http 0"], False),
        ([*K3S, "cilium 812 true", "mode @http 0", "metric @http 0"], True),
        ([*K3S, "cilium 812 true", "mode ipvs", "mode @http 200"], False),
        ([*K3S, "cilium 812 partial", "mode @http 0"], False),
        ([*K3S, "mode @http 0"], False),
    ],
)
def test_what_is_left_of_a_kube_proxy_that_cilium_has_replaced_tells_no_mode(said: list[str], gone: bool) -> None:
    read = node()
    read["kube_proxy"] = reading(KubeProxy().read(said))
    assert kube_services.gone(read) is gone
    assert kube_services.mode(read) == ("" if gone else "ipvs")
    # Stale rules of iptables mode are no better.
    read["ipvs"] = reading(Ipvs().read(["support no kernel support"]))
    set_rules(read, {("nft", 4): lines("incident-iptables-nft.txt")})
    assert (kube_services.mode(read) == "") is gone
