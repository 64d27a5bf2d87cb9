"""The checks of iptables' backends: on the incident as it was recorded, and on healthy nodes with one thing changed."""

from __future__ import annotations

import json
import re
from typing import cast

import pytest

from checks import firewall_001
from checks.case import Case
from checks.finding import Status
from facts.conntrack import DnsFlows
from facts.ipvs import Ipvs
from facts.netfilter_chains import HINTS
from facts.snapshot import Snapshot
from tests.checks.kube_fleet import (
    FIXTURES,
    VIP,
    fleet,
    incident,
    judged,
    lines,
    reading,
    set_host,
    set_rules,
    statuses,
    without_kubernetes,
)

FOREIGN_NAT = [
    "*nat",
    ":PREROUTING ACCEPT [0:0]",
    ":DOCKER - [0:0]",
    "[4:240] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
    f"[7:420] -A PREROUTING -d {VIP}/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.99.0.50:53",
    "COMMIT",
]


def hints(*chains: str) -> list[str]:
    return ["*mangle", ":PREROUTING ACCEPT [0:0]", *(f":{chain} - [0:0]" for chain in chains), "COMMIT"]


def test_a_healthy_fleet_passes() -> None:
    for name in fleet():
        assert statuses(judged(fleet(), name)) == {}


def test_the_incident_is_named_by_rule_and_dead_target() -> None:
    nodes = fleet()
    incident(nodes["node-0"])
    found = judged(nodes, ipvs_deltas={VIP: (20, 0)})
    assert statuses(found) == {
        "IPTABLES-002": Status.FAIL,
        "IPTABLES-003": Status.FAIL,
        "IPTABLES-004": Status.WARN,
        "IPVS-001": Status.FAIL,
    }
    assert {found[check]["operation"] for check in statuses(found)} == {"netfilter.remove_stale"}
    two, three = found["IPTABLES-002"], found["IPTABLES-003"]
    assert two["sentence"] == (
        "kube-proxy's chains are in both backends for IPv4: it writes to legacy, and 56 rules of nft still apply"
    )
    assert any(line.startswith("nft: -A PREROUTING") and "[170 packets]" in line for line in two["evidence"])
    assert three["sentence"].startswith(
        f"nft for IPv4 sends {VIP}:53 to 10.244.0.12:53, which is none of its real servers"
        " (10.244.0.11:53 and 10.244.0.13:53): -A KUBE-SEP-LSIUSH75GR7U3TUR "
    )
    assert not any("10.244.0.11:53" in line for line in three["evidence"])
    assert "KUBE-IPTABLES-HINT in nft for IPv6" in found["IPTABLES-004"]["sentence"]
    assert statuses(judged(nodes, "node-1")) == {}


def test_a_kube_proxy_in_a_container_would_follow_the_stale_hint() -> None:
    nodes = fleet()
    set_rules(
        nodes["node-0"],
        {("legacy", 4): lines("incident-iptables-legacy.txt"), ("nft", 6): hints("KUBE-KUBELET-CANARY")},
    )
    assert statuses(judged(nodes)) == {"IPTABLES-004": Status.WARN}
    proxy = nodes["node-0"]["kube_proxy"]["value"]
    assert proxy
    proxy["form"] = "DaemonSet"
    found = judged(nodes)
    assert statuses(found) == {"IPTABLES-004": Status.FAIL}
    assert found["IPTABLES-004"]["sentence"] == (
        "stale: KUBE-KUBELET-CANARY in nft for IPv6, while the kubelet works on legacy: a kube-proxy in a container"
        " would choose nft at its next start"
    )


def test_a_canary_of_kube_proxy_is_no_hint() -> None:
    assert "KUBE-PROXY-CANARY" in HINTS
    nodes = fleet()
    set_rules(
        nodes["node-0"],
        {("legacy", 4): lines("incident-iptables-legacy.txt"), ("nft", 4): hints("KUBE-PROXY-CANARY")},
    )
    assert statuses(judged(nodes)) == {}


def test_both_backends_without_a_conflict_pass() -> None:
    nodes = fleet()
    foreign = [
        "*filter",
        ":FORWARD ACCEPT [0:0]",
        ":DOCKER - [0:0]",
        "[1:60] -A FORWARD -o docker0 -j DOCKER",
        "COMMIT",
    ]
    set_rules(nodes["node-0"], {("legacy", 4): lines("incident-iptables-legacy.txt"), ("nft", 4): foreign})
    found = judged(nodes)
    assert statuses(found) == {}
    assert found["IPTABLES-002"]["evidence"] == ["nft for IPv4: rules of docker"]


def test_the_odd_node_is_named() -> None:
    nodes = fleet()
    on_nft(nodes["node-0"])
    found = judged(nodes)
    assert statuses(found) == {"IPTABLES-001": Status.FAIL}
    finding = found["IPTABLES-001"]
    assert finding["operation"] == "alternatives.backend"
    assert finding["sentence"] == (
        "node-0 is the odd node: iptables is on nft (auto), on legacy on 2 other nodes (nft on node-0, legacy on node-1"
        " and node-2)"
    )
    assert [line.split(",")[0] for line in finding["evidence"]] == [
        "node-0: iptables nft (auto)",
        "node-1: iptables legacy (manual)",
        "node-2: iptables legacy (manual)",
    ]
    assert statuses(judged(nodes, "node-1")) == {}


def on_nft(node: Snapshot) -> None:
    """As the package has it, with kube-proxy's rules there and nowhere else."""
    set_host(node, "nft", "nft", "auto")
    set_rules(node, {("nft", 4): lines("incident-iptables-legacy.txt")})


def test_two_nodes_that_differ_are_split() -> None:
    nodes = fleet()
    del nodes["node-2"]
    on_nft(nodes["node-0"])
    for name in nodes:
        found = judged(nodes, name)
        assert statuses(found) == {"IPTABLES-001": Status.FAIL}
        assert "the fleet is split: nft on node-0, legacy on node-1" in found["IPTABLES-001"]["sentence"]


def test_nodes_without_kubernetes_do_not_vote() -> None:
    nodes = fleet()
    for name in ("node-1", "node-2"):
        set_host(nodes[name], "nft", "nft", "auto")
        nodes[name]["kube_proxy"] = reading(None)
    assert statuses(judged(nodes)) == {}


def test_only_ip6tables_on_nft() -> None:
    nodes = fleet()
    set_host(nodes["node-0"], "legacy", "nft")
    found = judged(nodes)
    assert statuses(found) == {"IPTABLES-001": Status.FAIL}
    assert found["IPTABLES-001"]["sentence"] == "only ip6tables is on nft (manual), iptables is on legacy (manual)"


def test_the_alternative_was_switched_and_kube_proxy_has_not_followed() -> None:
    nodes = fleet()
    for node in nodes.values():
        set_host(node, "nft", "nft")
    found = judged(nodes)["IPTABLES-001"]
    assert (found["status"], found["sentence"]) == (
        Status.FAIL,
        "the kubelet works on legacy, the host's iptables is on nft",
    )
    proxy = nodes["node-0"]["kube_proxy"]["value"]
    assert proxy
    proxy["form"] = "k3s"
    assert judged(nodes)["IPTABLES-001"]["status"] == Status.WARN


def test_rules_that_no_hook_reaches_are_not_live() -> None:
    nodes = fleet()
    orphans = [line for line in lines("incident-iptables-nft.txt") if "KUBE-SERVICES" not in line or line[0] == ":"]
    set_rules(
        nodes["node-0"],
        {
            ("legacy", 4): lines("incident-iptables-legacy.txt"),
            ("nft", 4): [
                line for line in orphans if " -j KUBE-" not in line and "HINT" not in line and "-CANARY" not in line
            ],
        },
    )
    found = judged(nodes)
    assert statuses(found) == {"IPTABLES-002": Status.WARN}
    assert "no hook leads to" in found["IPTABLES-002"]["sentence"]


def test_a_dnat_that_still_leads_to_a_real_server_is_a_warning() -> None:
    nodes = fleet()
    incident(nodes["node-0"])
    found = judged(nodes, endpoints={VIP: ["10.244.0.11:53", "10.244.0.12:53"]})["IPTABLES-003"]
    assert found["status"] == Status.WARN
    assert "still takes DNS queries before IPVS does" in found["sentence"]


def test_a_foreign_rule_is_reported_and_left() -> None:
    nodes = fleet()
    set_rules(nodes["node-0"], {("legacy", 4): lines("incident-iptables-legacy.txt"), ("nft", 4): FOREIGN_NAT})
    found = judged(nodes)
    assert statuses(found) == {"IPTABLES-003": Status.WARN}
    assert found["IPTABLES-003"]["sentence"].startswith(
        "a foreign rule: nft for IPv4 sends 10.32.0.10:53 to 10.99.0.50:53"
    )
    assert found["IPTABLES-003"]["operation"] == ""


def iptables_mode(node: Snapshot) -> None:
    """kube-proxy in iptables mode on nft, healthy."""
    set_host(node, "nft", "nft")
    set_rules(node, {("nft", 4): lines("iptables-mode-nft.txt")})
    proxy = node["kube_proxy"]["value"]
    ipvs = node["ipvs"]["value"]
    assert proxy and ipvs
    proxy["mode"] = "iptables"
    node["ipvs"] = reading(ipvs | {"services": [], "device": False, "addresses": []})
    node["dns_flows"] = reading([])


def test_iptables_mode_passes_and_has_no_ipvs() -> None:
    nodes = fleet()
    for node in nodes.values():
        iptables_mode(node)
    found = judged(nodes)
    assert {check: status for check, status in statuses(found).items() if not check.startswith("IPVS")} == {}
    assert {found[check]["sentence"] for check in found if check.startswith("IPVS")} == {
        "kube-proxy is in iptables mode"
    }
    assert found["IPTABLES-003"]["sentence"] == "4 rules rewrite queries for 10.32.0.10, all to pods that answer them"


def test_iptables_mode_with_the_endpoints_known() -> None:
    nodes = fleet()
    for node in nodes.values():
        iptables_mode(node)
    found = judged(nodes, endpoints={VIP: ["10.244.0.11:53", "10.244.0.13:53"]})["IPTABLES-003"]
    assert (found["status"], found["operation"]) == (Status.FAIL, "kube_proxy.restart")
    assert "10.244.0.12:53, which is none of its real servers" in found["sentence"]


def test_stale_rules_of_the_other_backend_in_iptables_mode() -> None:
    nodes = fleet()
    for node in nodes.values():
        iptables_mode(node)
    stale = [line.replace("10.244.0.12:53", "10.244.9.99:53") for line in lines("iptables-mode-nft.txt")]
    set_rules(nodes["node-0"], {("nft", 4): lines("iptables-mode-nft.txt"), ("legacy", 4): stale})
    found = judged(nodes)["IPTABLES-003"]
    assert (found["status"], found["operation"]) == (Status.FAIL, "netfilter.remove_stale")
    assert found["sentence"].startswith("legacy for IPv4 sends 10.32.0.10:53 to 10.244.9.99:53")


def test_foreign_chains_beside_kube_proxys_are_no_conflict() -> None:
    nodes = fleet()
    for node in nodes.values():
        iptables_mode(node)
        set_rules(node, {("nft", 4): lines("mixed-iptables-nft.txt")})
    found = judged(nodes)
    assert {check for check in statuses(found) if not check.startswith("IPVS")} == set()
    (evidence,) = found["IPTABLES-002"]["evidence"]
    assert evidence == "nft for IPv4: rules of admin, calico, cilium, cni, docker, flannel"


def test_rules_that_cannot_be_read_are_unknown_but_what_was_seen_counts() -> None:
    nodes = fleet()
    incident(nodes["node-0"])
    for one in nodes["node-0"]["rulesets"]["value"]:
        if (one["backend"], one["family"]) == ("legacy", 6):
            one["state"], one["detail"], one["tables"] = "failed", "exit code 4", []
    found = judged(nodes)
    assert found["IPTABLES-001"]["status"] == Status.UNKNOWN
    assert found["IPTABLES-001"]["sentence"] == "the legacy rules for IPv6: failed: exit code 4"
    assert found["IPTABLES-002"]["status"] == found["IPTABLES-003"]["status"] == Status.FAIL


@pytest.mark.parametrize("section", ["rulesets", "alternatives", "kube_proxy"])
def test_a_section_that_failed_is_unknown(section: str) -> None:
    nodes = fleet()
    nodes["node-0"][section] = {"state": "timed out", "value": [], "detail": "30 s"}  # type: ignore[literal-required]
    found = judged(nodes)
    assert found["IPTABLES-001"]["status"] == Status.UNKNOWN
    assert found["IPTABLES-001"]["sentence"] == f"{section}: timed out: 30 s"


def test_a_node_without_kubernetes_is_skipped() -> None:
    nodes = fleet()
    without_kubernetes(nodes["node-0"])
    assert set(statuses(judged(nodes)).values()) == {Status.SKIP}
    assert statuses(judged(nodes, "node-1")) == {}


def test_a_snapshot_of_an_earlier_version_is_unknown() -> None:
    recorded = cast("dict[str, Snapshot]", json.loads((FIXTURES / "fleet.json").read_text()))
    found = judged(recorded)
    assert set(statuses(found).values()) == {Status.UNKNOWN}
    assert found["IPTABLES-001"]["sentence"] == "kube_proxy: not in this snapshot"
    mixed = fleet() | {"old": recorded["node-0"], "gone": cast(Snapshot, None)}
    assert statuses(judged(mixed)) == {}
    assert set(statuses(judged(mixed, "gone")).values()) == {Status.UNKNOWN}


UNSHOWN = (
    "DNAT [unsupported revision]",
    "DNAT --to-destination :0 --persistent --to-destination :0 --persistent --to-destination 0.0.0.0:0",
)


def printed_by_an_older_iptables(target: str, only: str = r"\S+") -> list[str]:
    """The rules of a kube-proxy in iptables mode, whose iptables is later than the host's."""
    return [
        re.sub(rf"DNAT --to-destination {only}$", lambda _: target, line) for line in lines("incident-iptables-nft.txt")
    ]


def in_iptables_mode(rules: list[str]) -> Snapshot:
    bent = fleet()["node-0"]
    set_rules(bent, {("nft", 4): rules})
    set_host(bent, "nft", "nft")
    bent["ipvs"] = reading(Ipvs().read(["support no kernel support"]))
    proxy = bent["kube_proxy"]["value"]
    assert proxy
    proxy["mode"] = "iptables"
    bent["dns_flows"] = reading(DnsFlows().read([f"ipv4 udp {VIP} 10.244.0.11 16 2 27"]))
    return bent


@pytest.mark.parametrize("target", UNSHOWN)
@pytest.mark.parametrize("only", [r"\S+", r"10\.244\.0\.11:53"])
@pytest.mark.parametrize("endpoints", [{}, {VIP: ["10.244.0.11:53", "10.244.0.12:53"]}])
def test_003_a_target_that_an_older_iptables_does_not_show_is_not_known(
    target: str, only: str, endpoints: dict[str, list[str]]
) -> None:
    rules = printed_by_an_older_iptables(target, only)
    assert rules != lines("incident-iptables-nft.txt")
    nodes = {name: in_iptables_mode(rules) for name in ("node-0", "node-1")}
    found = judged(nodes, endpoints=endpoints)
    assert found["IPTABLES-003"]["status"] == Status.UNKNOWN
    if endpoints or only == r"\S+":
        assert found["IPTABLES-003"]["sentence"].startswith(
            f"nft for IPv4 rewrites queries for {VIP}:53, and where to is not in the rule as the node's iptables prints"
        )
        assert any(target in line for line in found["IPTABLES-003"]["evidence"])
    # With the EndpointSlices the flows are judged all the same; without them nothing says who is alive.
    assert found["CONNTRACK-002"]["status"] == (Status.PASS if endpoints else Status.UNKNOWN)
    assert Status.FAIL not in statuses(found).values()
    assert not found["IPTABLES-003"]["operation"] + found["CONNTRACK-002"]["operation"]


@pytest.mark.parametrize("target", UNSHOWN)
def test_003_what_one_node_does_not_show_another_does(target: str) -> None:
    nodes = {
        "node-0": in_iptables_mode(printed_by_an_older_iptables(target)),
        "node-1": in_iptables_mode(lines("incident-iptables-nft.txt")),
    }
    nodes["node-0"]["dns_flows"] = reading(DnsFlows().read([f"ipv4 udp {VIP} 10.244.9.99 16 2 27"]))
    found = judged(nodes)
    assert found["CONNTRACK-002"]["status"] == Status.FAIL
    assert found["IPTABLES-003"]["status"] == Status.UNKNOWN
    assert judged(nodes, "node-1")["IPTABLES-003"]["status"] == Status.PASS


def test_003_a_target_without_a_port_keeps_that_of_the_query() -> None:
    nodes = fleet()
    for address, status in (("10.244.0.11", Status.PASS), ("10.99.0.50", Status.WARN)):
        rules = [line.replace("10.99.0.50:53", address) for line in FOREIGN_NAT]
        set_rules(nodes["node-0"], {("legacy", 4): lines("incident-iptables-legacy.txt"), ("nft", 4): rules})
        assert judged(nodes)["IPTABLES-003"]["status"] == status


def test_firewall_001_a_mark_that_an_older_iptables_does_not_show() -> None:
    """kubernetes#112477: what KUBE-FORWARD accepts has kube-proxy's mark, whether it is shown or not."""
    said = []
    for mark in (" -m mark --mark 0x4000/0x4000", ""):
        nodes = fleet()
        rules = [
            "*filter",
            ":FORWARD DROP [0:0]",
            ":KUBE-FORWARD - [0:0]",
            '[9:9] -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
            f'[1:1] -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules"{mark} -j ACCEPT',
            "[1:1] -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "COMMIT",
        ]
        set_rules(nodes["node-0"], {("nft", 4): rules})
        finding = firewall_001.check(Case("node-0", nodes, [], []))[0]
        assert finding["status"] == Status.WARN
        said.append(finding["sentence"])
    assert said[0] == said[1]
    assert "policy FORWARD DROP" in said[0]
