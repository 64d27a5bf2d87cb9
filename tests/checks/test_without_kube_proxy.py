"""Nodes without rules of kube-proxy that are read, and with those that it has left to Cilium: these are left alone."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from runpy import run_path

import pytest

from checks import conntrack_002
from checks.case import Case
from checks.finding import Finding, Status
from deploys import rollout
from deploys.policy import Policy, of_values
from facts.ipvs import Ipvs
from facts.kube_proxy import KubeProxy
from models.kube_services import Mode
from models.resolvers import Fleet
from tests.checks import kube_fleet
from tests.checks.kube_fleet import VIP, fleet, judged, lines, reading, set_host, set_rules, with_cilium

ROOT = Path(__file__).resolve().parent.parent.parent
_VALUES = run_path(str(ROOT / "group_data" / "all.py"))
POLICY = of_values({field.name: _VALUES[field.name] for field in fields(Policy)})
MOVED = {VIP: ["10.244.1.71:53", "10.244.2.33:53"]}
ENDPOINTS = pytest.mark.parametrize("endpoints", [{}, MOVED])
Endpoints = dict[str, list[str]]


def after(mode: str) -> kube_fleet.Fleet:
    """CoreDNS has moved since; a pod of each node asks the service."""
    nodes = fleet()
    for node in nodes.values():
        with_cilium(node)
        node["pods"]["value"][0]["nameservers"] = [VIP]
        if mode == "iptables":
            node["ipvs"] = reading(Ipvs().read(["support no kernel support"]))
            set_rules(node, {("nft", 4): lines("incident-iptables-nft.txt")})
            set_host(node, "nft", "nft")
    return nodes


def told(nodes: kube_fleet.Fleet, endpoints: Endpoints) -> dict[str, Finding]:
    """What is neither well nor skipped; and nothing is asked for."""
    changes, refusals = rollout.needed(dict.fromkeys(nodes, POLICY), nodes, endpoints, 0)
    assert refusals == []
    assert not any(change.asked for change in changes.values())
    found = judged(nodes, endpoints=endpoints, ipvs_deltas={})
    return {check: one for check, one in found.items() if one["status"] not in (Status.PASS, Status.SKIP)}


@ENDPOINTS
def test_an_ipvs_table(endpoints: Endpoints) -> None:
    nodes = after("ipvs")
    found = told(nodes, endpoints)
    assert {check: (one["status"], one["operation"]) for check, one in found.items()} == {"IPVS-004": (Status.WARN, "")}
    assert found["IPVS-004"]["sentence"] == (
        f"IPVS still has {VIP}:53, with 10.244.0.11:53 and 10.244.0.13:53, left behind by a kube-proxy that is gone:"
        " Cilium takes the packets before"
    )
    table = nodes["node-0"]["ipvs"]["value"]
    assert table
    table["services"] = []
    assert told(nodes, endpoints) == {}


@ENDPOINTS
def test_rules_of_iptables_mode(endpoints: Endpoints) -> None:
    nodes = after("iptables")
    found = told(nodes, endpoints)
    assert {check: (one["status"], one["operation"]) for check, one in found.items()} == {
        "IPTABLES-003": (Status.WARN, "")
    }
    assert found["IPTABLES-003"]["sentence"] == (
        f"nft for IPv4 still rewrites queries for {VIP}:53, left behind by a kube-proxy that is gone:"
        " Cilium takes the packets before"
    )
    assert any("10.244.0.12:53" in line for line in found["IPTABLES-003"]["evidence"])


@ENDPOINTS
def test_a_foreign_rule_beside_them_is_judged_as_ever(endpoints: Endpoints) -> None:
    nodes = after("iptables")
    rule = f"[7:420] -A PREROUTING -d {VIP}/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.99.0.50:53"
    foreign = ["*nat", ":PREROUTING ACCEPT [0:0]", rule, "COMMIT"]
    for node in nodes.values():
        set_rules(node, {("nft", 4): lines("incident-iptables-nft.txt"), ("legacy", 4): foreign})
    found = told(nodes, endpoints)["IPTABLES-003"]
    assert found["status"] == (Status.WARN if endpoints else Status.UNKNOWN)


@ENDPOINTS
def test_k3s_without_its_kube_proxy(endpoints: Endpoints) -> None:
    """k3s server --disable-kube-proxy: the process is there all the same, and does not show its arguments."""
    nodes = after("ipvs")
    said = ["process 700 k3s-server azNzAHNlcnZlcgA=", "cgroup 0::/system.slice/k3s.service", "cilium 1200 true"]
    for node in nodes.values():
        node["kube_proxy"] = reading(KubeProxy().read([*said, "mode @http 0", "metric @http 0", "health @http 0"]))
    assert set(told(nodes, endpoints)) == {"IPVS-004"}
    found = judged(nodes, endpoints=endpoints)
    assert found["KUBEPROXY-001"]["sentence"] == "no kube-proxy on this node: Cilium runs"
    assert {found[check]["status"] for check in ("KUBEPROXY-001", "KUBEPROXY-002", "CONNTRACK-002")} == {Status.SKIP}


def test_a_kube_proxy_that_runs_beside_cilium_is_judged_as_ever() -> None:
    nodes = after("ipvs")
    for node in nodes.values():
        node["kube_proxy"] = fleet()["node-0"]["kube_proxy"]
        proxy = node["kube_proxy"]["value"]
        assert proxy
        proxy["cilium"] = {"pid": 1200, "replacement": "true"}
    assert judged(nodes, endpoints=MOVED)["IPVS-004"]["status"] == Status.FAIL
    changes, _ = rollout.needed(dict.fromkeys(nodes, POLICY), nodes, MOVED, 0)
    assert all(change.asked.restart for change in changes.values())


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_conntrack_002_where_nothing_tells_which_pods_answer(mode: Mode) -> None:
    """kube-proxy's own nftables rules are not read, and a node with OVN-Kubernetes, say, has none."""
    nodes = fleet()
    for bent in nodes.values():
        set_rules(bent, {})
        bent["ipvs"] = reading(Ipvs().read(["support no kernel support"]))
        proxy = bent["kube_proxy"]["value"]
        assert proxy
        proxy["mode"] = mode
    among = Fleet(nodes, {}, [VIP], {})
    case = Case("node-0", nodes, [], [], among=among)
    (found,) = conntrack_002.check(case)
    assert found["status"] == (Status.SKIP if mode == "nftables" else Status.UNKNOWN)
    (found,) = conntrack_002.check(replace(case, endpoints={VIP: ["10.244.0.11:53"]}))
    assert found["status"] == Status.FAIL
