"""The cluster's DNS service as the nodes know it: addresses, real servers, and the rules that take its packets."""

from __future__ import annotations

import json
from typing import cast

import pytest

from facts.kube_proxy_answer import Form
from facts.netfilter import Backend
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
