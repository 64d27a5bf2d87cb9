"""Circles of resolvers, found in their configuration; and none where there is none."""

from __future__ import annotations

from models import node, resolver_loops
from models.resolvers import Fleet as Resolvers
from tests.models import fleets
from tests.models.fleets import Fleet, option

SERVICE = "10.32.0.10"
COREDNS = {"node-0": "172.26.2.53", "node-1": "172.26.3.53"}


def circles(fleet: Fleet, name: str = "node-0") -> list[resolver_loops.Loop]:
    return resolver_loops.loops(Resolvers(fleet, node.vips(fleet, None), [], {}), name)


def told(fleet: Fleet, name: str = "node-0") -> list[tuple[str, str]]:
    return [(loop.domain, str(loop)) for loop in circles(fleet, name)]


def test_the_lab_has_none() -> None:
    assert circles(fleets.recorded()) == circles(fleets.recorded(), "node-1") == []


def test_dnsmasq_and_systemd_resolved() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "127.0.0.53", 7))
    (loop,) = circles(fleet)
    assert str(loop) == "dnsmasq (node-0) -> systemd-resolved (node-0) -> dnsmasq (node-0)"
    assert loop.because == (f"server=127.0.0.53 ({fleets.FILE}:7)", "systemd-resolved's server 172.25.4.1")
    assert not loop.harmless
    assert circles(fleet, "node-1") == []


def test_dnsmasq_that_reads_the_stub_file() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("server", "/zju.edu.cn/10.10.0.21"))
    ((domain, chain),) = told(fleet)
    assert domain == ""
    assert "systemd-resolved" in chain
    (loop,) = circles(fleet)
    assert loop.because[0] == "nameserver 127.0.0.53 in /etc/resolv.conf"


def test_a_circle_for_one_domain_only() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(
        fleet["node-0"],
        option("no-resolv", None),
        option("server", "192.18.0.2"),
        option("server", "/zju.edu.cn/127.0.0.53"),
    )
    ((domain, _),) = told(fleet)
    assert domain == "zju.edu.cn"


def test_two_dnsmasqs() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "172.25.4.2"))
    fleets.set_upstreams(fleet["node-1"], option("no-resolv", None), option("server", "172.25.4.1"))
    assert told(fleet) == told(fleet, "node-1") == [("", "dnsmasq (node-0) -> dnsmasq (node-1) -> dnsmasq (node-0)")]


def test_one_that_leads_into_a_circle_is_not_in_it() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "172.25.4.2"))
    fleets.set_upstreams(fleet["node-1"], option("no-resolv", None), option("server", "127.0.0.53"))
    assert told(fleet) == []
    assert len(told(fleet, "node-1")) == 1


def test_systemd_resolved_that_asks_itself() -> None:
    fleet = fleets.recorded()
    fleets.set_uplinks(fleet["node-0"], "127.0.0.53")
    assert told(fleet) == [("", "systemd-resolved (node-0) -> systemd-resolved (node-0)")]


def test_dnsmasq_ignores_itself() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "172.25.4.1"))
    (alone,) = circles(fleet)
    assert not alone.harmless
    fleets.set_upstreams(
        fleet["node-0"], option("no-resolv", None), option("server", "172.25.4.1"), option("server", "192.18.0.2")
    )
    (beside,) = circles(fleet)
    assert beside.harmless


def test_dnsmasq_that_finds_127_0_0_1_in_resolv_conf_is_as_it_should_be() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("server", "192.18.0.2"))
    resolv_conf = fleet["node-0"]["resolv_conf"]["value"]
    assert resolv_conf is not None
    resolv_conf["nameservers"] = ["127.0.0.1"]
    assert circles(fleet) == []


def coredns(fleet: Fleet, corefile: str) -> None:
    """Each node's pod of CoreDNS has this Corefile, and the service's address leads to them."""
    for name, read in fleet.items():
        pod = fleets.pod(read, COREDNS[name])
        running = {"netns": pod["netns"], "pid": 1, "path": "/etc/coredns/Corefile", "corefile": corefile}
        read["coredns"] = fleets.reading([running])


def served(fleet: Fleet, name: str = "node-0") -> list[str]:
    ends = {SERVICE: [f"{address}:53" for address in COREDNS.values()]}
    return [str(loop) for loop in resolver_loops.loops(Resolvers(fleet, node.vips(fleet, None), [SERVICE], ends), name)]


OWN = "kubernetes cluster.local in-addr.arpa ip6.arpa {\n}\n"


def test_a_domain_that_coredns_answers_itself_goes_round_nowhere() -> None:
    """A node that resolves services itself asks CoreDNS for them, and CoreDNS asks the node for all the rest."""
    fleet = fleets.recorded()
    for name in fleet:
        upstream = [option("no-resolv", None), option("server", "192.18.0.2")]
        fleets.set_upstreams(fleet[name], *upstream, option("server", f"/cluster.local/{SERVICE}"))
    coredns(fleet, f".:53 {{\n{OWN}forward . 172.25.4.1\n}}\n")
    assert served(fleet) == served(fleet, "node-1") == []
    coredns(fleet, ".:53 {\nforward . 172.25.4.1\n}\n")
    assert served(fleet) == ["CoreDNS (node-0/pod 172.26.2.53) -> dnsmasq (node-0) -> CoreDNS (node-0/pod 172.26.2.53)"]


def test_of_the_circles_through_a_service_the_shortest_is_told() -> None:
    """Each dnsmasq asks all CoreDNS, and each CoreDNS its node: the roads are as many as their orders."""
    fleet = fleets.recorded()
    for name in fleet:
        fleets.set_upstreams(fleet[name], option("no-resolv", None), option("server", SERVICE))
    coredns(fleet, ".:53 {\nforward . /etc/resolv.conf\n}\n")
    for name, address in COREDNS.items():
        here = f"CoreDNS ({name}/pod {address})"
        assert served(fleet, name) == [f"{here} -> dnsmasq ({name}) -> {here}"]


def test_a_resolvers_pod_with_the_nodes_stub_file() -> None:
    fleet = fleets.recorded()
    fleets.pod(fleet["node-0"], "172.26.2.53")["nameservers"] = ["127.0.0.53"]
    ((_, chain),) = told(fleet)
    assert chain == "resolver (node-0/pod 172.26.2.53) -> resolver (node-0/pod 172.26.2.53)"


def test_any_other_pod_with_the_nodes_stub_file() -> None:
    fleet = fleets.recorded()
    fleets.pod(fleet["node-0"], "172.26.2.145")["nameservers"] = ["127.0.0.53"]
    found = resolver_loops.stubs_in_pods(Resolvers(fleet, node.vips(fleet, None), [], {}), "node-0")
    assert {str(place): address for place, address in found.items()} == {"node-0/pod 172.26.2.145": "127.0.0.53"}
