"""Which finding is the cause of which: on the recorded incident, on bent fleets, and on the table itself."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any, cast

from checks.case import Case
from checks.catalogue import CHECKS
from checks.causes import CAUSES, FOLLOWS
from checks.finding import Finding, Status
from checks.incidents import Incident, incidents, names, own
from facts.snapshot import Snapshot
from tests.checks.kube_fleet import VIP, fleet, incident, real_server, real_servers


def findings(nodes: Mapping[str, Snapshot | None], **given: Mapping[str, Any]) -> list[Finding]:
    """All that the cluster's checks say of a fleet; `given` are further inputs of a case, by node."""
    found: list[Finding] = []
    for name in nodes:
        inputs = {"ipvs_deltas": {VIP: (20, 20)}, **given.get(name.replace("-", "_"), {})}
        case = Case(name, nodes, [], [], **inputs)
        found += [one for check, run in CHECKS.items() if not check.startswith("DNSMASQ") for one in run(case)]
    return found


def failing(check: str, node: str = "node-0", sentence: str = "it is broken", **more: Any) -> Finding:
    given = {"status": Status.FAIL, "evidence": [], "operation": "", **more}
    return cast(Finding, {"check": check, "title": check, "node": node, "sentence": sentence, **given})


def summary(found: list[Incident]) -> list[tuple[str, list[str], list[str]]]:
    return [(one.cause.check, one.nodes, sorted(each["check"] for each in one.consequences)) for one in found]


def test_every_check_has_a_place_in_the_table() -> None:
    assert {cause.check for cause in CAUSES} == set(CHECKS)
    assert len(CAUSES) == len(CHECKS)


def test_no_check_is_a_consequence_of_itself() -> None:
    graph: dict[str, set[str]] = {}
    for rule in FOLLOWS:
        assert rule.effect in CHECKS and rule.cause in CHECKS
        graph.setdefault(rule.effect, set()).add(rule.cause)
    assert list(TopologicalSorter(graph).static_order())


def test_what_must_work_says_what_it_risks() -> None:
    assert [cause.check for cause in CAUSES if cause.alone != bool(cause.risk)] == []


def test_a_healthy_fleet_has_no_incident() -> None:
    assert incidents(findings(fleet()), fleet()) == []


def test_the_recorded_incident_is_one_with_its_consequences() -> None:
    nodes = fleet()
    incident(nodes["node-0"])
    found = incidents(findings(nodes, node_0={"ipvs_deltas": {VIP: (20, 0)}}), nodes)
    assert summary(found) == [("IPTABLES-003", ["node-0"], ["IPTABLES-002", "IPTABLES-004", "IPVS-001"])]
    assert found[0].fails and found[0].certain


def test_a_dead_real_server_is_the_kube_proxys_where_that_is_stopped() -> None:
    nodes = fleet()
    for protocol in ("udp", "tcp"):
        real_servers(nodes["node-1"], protocol).append(real_server("10.244.0.99"))
    assert summary(incidents(findings(nodes), nodes)) == [("IPVS-004", ["node-1"], [])]
    proxy = nodes["node-1"]["kube_proxy"]["value"]
    assert proxy
    proxy["pid"] = 0
    assert summary(incidents(findings(nodes), nodes)) == [("KUBEPROXY-001", ["node-1"], ["IPVS-004", "IPVS-004"])]
    # On another node it has nothing to do with that.
    nodes["node-2"]["kube_proxy"], nodes["node-1"]["kube_proxy"] = (
        nodes["node-1"]["kube_proxy"],
        nodes["node-2"]["kube_proxy"],
    )
    assert summary(incidents(findings(nodes), nodes)) == [
        ("KUBEPROXY-001", ["node-2"], []),
        ("IPVS-004", ["node-1"], []),
    ]


def test_a_latent_finding_is_no_incident_by_itself() -> None:
    nodes = fleet()
    latent = [failing("IPTABLES-001"), failing("IPTABLES-002"), failing("IPTABLES-004", status=Status.WARN)]
    (one,) = incidents(latent, nodes)
    assert summary([one]) == [("IPTABLES-001", ["node-0"], ["IPTABLES-002", "IPTABLES-004"])]
    assert not one.fails and not one.certain


def test_a_warning_counts_as_the_reason_of_a_failure_only() -> None:
    nodes = fleet()
    foreign = failing("IPTABLES-003", status=Status.WARN)
    assert incidents([foreign], nodes) == []
    (one,) = incidents([foreign, failing("IPVS-001")], nodes)
    assert summary([one]) == [("IPTABLES-003", ["node-0"], ["IPVS-001"])]
    # The finding warns only, and nothing is known to be lost: that questions go astray is not proven.
    assert not one.certain
    (older,) = incidents([failing("DNSMASQ-004", status=Status.WARN), failing("DNSMASQ-001")], nodes)
    assert summary([older]) == [("DNSMASQ-004", ["node-0"], ["DNSMASQ-001"])]
    assert older.fails
    filtered = failing("DNSMASQ-001", operation="dnsmasq.interface_policy")
    (named,) = incidents([failing("DNSMASQ-004", status=Status.WARN), filtered], nodes)
    assert summary([named]) == [("DNSMASQ-001", ["node-0"], [])]


def test_the_same_words_on_several_nodes_are_one_incident() -> None:
    nodes = fleet()
    addresses = {name: sorted(own(name, nodes))[0] for name in nodes}
    said = [
        failing(
            "DNSMASQ-001", name, f"{address} gets no answer, 12 lost: except-interface=cilium_* (/etc/k8s.conf:14)."
        )
        for name, address in addresses.items()
    ]
    # The fixture's nodes are copies of one, so that one address is everybody's.
    assert summary(incidents(said, nodes)) == [("DNSMASQ-001", ["node-0", "node-1", "node-2"], [])]
    said[2]["sentence"] = said[2]["sentence"].replace("except-interface=cilium_*", "interface=bond0")
    assert summary(incidents(said, nodes)) == [
        ("DNSMASQ-001", ["node-0", "node-1"], []),
        ("DNSMASQ-001", ["node-2"], []),
    ]


def test_a_full_table_is_felt_on_the_nodes_that_ask_there() -> None:
    nodes = fleet()
    address = sorted(own("node-0", nodes))[0]
    nodes["node-1"]["interfaces"]["value"] = []
    nodes["node-1"]["pods"]["value"] = []
    dead = failing("IPVS-004", "node-1", f"UDP {VIP}:53 sends queries to {address}:53, which does not answer")
    other = failing("IPVS-004", "node-1", f"UDP {VIP}:53 sends queries to 10.244.9.9:53, which does not answer")
    full = failing("CONNTRACK-001", "node-0")
    assert summary(incidents([full, dead], nodes)) == [("CONNTRACK-001", ["node-0"], ["IPVS-004"])]
    assert len(incidents([full, other], nodes)) == 2


def test_an_address_is_found_with_its_port_and_before_a_full_stop() -> None:
    assert names("sends it to 10.0.0.1:53, not to 10.0.0.11.", ["10.0.0.1", "10.0.0.11", "10.0.0.2"]) == {
        "10.0.0.1",
        "10.0.0.11",
    }
    assert names("no answer from fd00::1.", ["fd00::1"]) == {"fd00::1"}
