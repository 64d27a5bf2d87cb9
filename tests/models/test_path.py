"""The way of a query, found in recorded nodes: of the lab, and of a cluster with a DNS service."""

from __future__ import annotations

from typing import cast

import pytest

from facts.coredns import CoreDns
from models import kube_services, node, path
from models.path import Names, Step
from tests.checks import kube_fleet
from tests.models import fleets
from tests.models.fleets import Fleet, option

NAMES = Names("google.com", "kubernetes.default.svc.cluster.local")
SERVICE = kube_fleet.VIP


def walked(fleet: Fleet, names: Names = NAMES, endpoints: kube_services.Endpoints | None = None) -> dict[str, Step]:
    known = endpoints or {}
    steps = path.steps(fleet, node.vips(fleet, None), kube_services.vips(fleet, known), known, names)
    assert len({step.id for step in steps}) == len(steps)
    return {step.id: step for step in steps}


def test_the_lab() -> None:
    steps = walked(fleets.recorded())
    assert {name: step.stage for name, step in steps.items() if step.node == "node-0"} == {
        "node-0/pod 172.26.2.145/172.26.2.53:53": "pod to service",
        "node-0/pod 172.26.2.53/172.25.4.1:53": "endpoint to upstream",
        "node-0/host/127.0.0.53:53": "host to stub",
        "node-0/host/172.25.4.1:53": "host to dnsmasq",
        "node-0/dnsmasq/172.28.0.2:53": "dnsmasq to upstream",
        "node-0/dnsmasq/10.10.0.21:53": "dnsmasq to upstream",
        "node-0/dnsmasq/192.18.0.2:53": "dnsmasq to upstream",
    }
    first = steps["node-0/pod 172.26.2.145/172.26.2.53:53"]
    assert (first.owner, first.source, first.because) == (
        "node-0/pod 172.26.2.53",
        "172.26.2.145",
        ("nameserver 172.26.2.53 in its resolv.conf",),
    )
    assert first.pid == fleets.pod(fleets.recorded()["node-0"], "172.26.2.145")["pid"]
    assert first.needs["version.bind"] == ()
    assert first.needs["zju.edu.cn"] == ("node-0/pod 172.26.2.53/172.25.4.1:53",)
    second = steps["node-0/pod 172.26.2.53/172.25.4.1:53"]
    assert second.needs["zju.edu.cn"] == ("node-0/dnsmasq/10.10.0.21:53",)
    assert second.needs["google.com"] == ("node-0/dnsmasq/192.18.0.2:53",)


def test_an_upstream_is_asked_what_dnsmasq_asks_it() -> None:
    steps = walked(fleets.recorded(), Names("google.com", "-", {"zju.edu.cn": "www.zju.edu.cn"}))
    asked = {step.destination: step.questions for step in steps.values() if step.node == "node-0"}
    assert [(one.name, one.rdtype) for one in asked["10.10.0.21"]] == [("www.zju.edu.cn", "A")]
    assert [(one.name, one.rdtype) for one in asked["172.28.0.2"]] == [("clusters.zjusct.io", "SOA")]
    assert [(one.name, one.rdtype) for one in asked["192.18.0.2"]] == [("google.com", "A")]
    assert {one.rcodes for one in asked["192.18.0.2"]} == {("NOERROR", "NXDOMAIN")}


def test_a_node_that_could_not_be_read_is_no_source() -> None:
    read = fleets.recorded()
    fleet = {"node-0": read["node-0"], "node-1": None}
    steps = path.steps(fleet, node.vips(fleet, None), [], {}, NAMES)
    assert {step.node for step in steps} == {"node-0"}


def cluster() -> Fleet:
    """Two nodes with kube-proxy in IPVS mode; a client on node-0, and a CoreDNS pod on each."""
    fleet, lab = kube_fleet.fleet(), fleets.recorded()
    del fleet["node-2"]
    for section in ("interfaces", "routes", "sockets", "pods", "dnsmasq", "resolved", "resolv_conf"):
        fleet["node-1"][section] = lab["node-1"][section]
    for name, address, vip in (("node-0", "10.244.0.11", "172.25.4.1"), ("node-1", "10.244.0.13", "172.25.4.2")):
        resolver = fleets.pod(fleet[name], "172.26.2.53" if name == "node-0" else "172.26.3.53")
        resolver["addresses"], resolver["nameservers"], resolver["processes"] = [address], [vip], ["pause", "coredns"]
    fleets.pod(fleet["node-0"], "172.26.2.145")["nameservers"] = [SERVICE]
    return fleet


def test_a_service_and_its_endpoints() -> None:
    fleet = cluster()
    ends = sorted(kube_services.targets("node-0", fleet, {}, SERVICE, "udp"))
    steps = walked(fleet)
    first = steps[f"node-0/pod 172.26.2.145/{SERVICE}:53"]
    assert first.stage == "pod to service"
    behind = tuple(f"node-0/pod 172.26.2.145/{end}" for end in ends)
    assert first.needs["google.com"] == first.needs[NAMES.service] == behind
    for name in behind:
        assert steps[name].stage == "pod to endpoint"
        assert SERVICE in steps[name].because[0]
        assert steps[name].needs[NAMES.service] == ()
    other = steps["node-0/pod 172.26.2.145/10.244.0.13:53"]
    assert other.owner == "node-1/pod 10.244.0.13"
    assert other.needs["google.com"] == ("node-1/pod 10.244.0.13/172.25.4.2:53",)
    assert steps["node-1/pod 10.244.0.13/172.25.4.2:53"].stage == "endpoint to upstream"
    host = steps[f"node-1/host/{SERVICE}:53"]
    assert host.stage == "host to service"
    assert set(host.needs[NAMES.service]) == set(behind)


def test_an_endpoint_that_only_the_slices_know_and_a_real_server_that_only_ipvs_has() -> None:
    steps = walked(cluster(), endpoints={SERVICE: ["10.244.9.9:5353", "10.244.0.11:53"]})
    asked = {step.destination: step for step in steps.values() if step.stage == "pod to endpoint"}
    assert asked["10.244.9.9"].port == 5353
    assert asked["10.244.9.9"].owner == ""
    assert [question.name for question in asked["10.244.9.9"].questions][:2] == [NAMES.service, "google.com"]
    assert "EndpointSlice" in asked["10.244.9.9"].because[0]
    assert "EndpointSlice" in asked["10.244.0.11"].because[0]
    assert "IPVS" in asked["10.244.0.13"].because[0]


def test_kube_proxy_in_nftables_mode_leaves_the_pods_that_run_coredns() -> None:
    fleet = cluster()
    for read in fleet.values():
        read["ipvs"]["value"] = None
        kube_fleet.set_rules(read, {})
        proxy = read["kube_proxy"]["value"]
        assert proxy is not None
        proxy["mode"] = "nftables"
    found = path.steps(fleet, node.vips(fleet, None), [SERVICE], {}, NAMES)
    ends = {step.destination: step for step in found if step.stage == "pod to endpoint"}
    assert set(ends) == {"10.244.0.11", "10.244.0.13"}
    assert {step.because for step in ends.values()} == {("a pod that runs CoreDNS",)}


@pytest.mark.parametrize("port", [53, 5353])
def test_with_cilium_in_kube_proxys_place_the_service_is_asked_for_the_clusters_name(port: int) -> None:
    fleet = cluster()
    fleets.pod(fleet["node-1"], "172.26.3.145")["nameservers"] = [SERVICE]
    for name, read in fleet.items():
        read["ipvs"]["value"] = None
        kube_fleet.set_rules(read, {})
        kube_fleet.with_cilium(read)
        corefile = f".:{port} {{\n    kubernetes cluster.local {{\n    }}\n    forward . /etc/resolv.conf\n}}\n"
        pod = fleets.pod(read, "10.244.0.11" if name == "node-0" else "10.244.0.13")
        running = {"netns": pod["netns"], "pid": pod["pid"], "path": "/etc/coredns/Corefile"}
        read["coredns"] = fleets.reading([{**running, "corefile": corefile}])
    # A CoreDNS for the LAN.
    other = fleets.add_pod(fleet["node-0"], "172.26.2.145", "10.244.0.50", 4711, SERVICE)
    other["processes"] = ["pause", "coredns"]
    running = {"netns": 4711, "pid": 4711, "path": "/etc/coredns/Corefile", "corefile": "example.org:1053 {\n}\n"}
    fleet["node-0"]["coredns"]["value"] += [cast(CoreDns, running)]
    steps = walked(fleet)
    first = steps[f"node-0/pod 172.26.2.145/{SERVICE}:53"]
    behind = tuple(f"node-0/pod 172.26.2.145/{pod}:{port}" for pod in ("10.244.0.11", "10.244.0.13"))
    assert first.needs["google.com"] == first.needs[NAMES.service] == behind
    for name in behind:
        assert (steps[name].stage, steps[name].questions[0].name) == ("pod to endpoint", NAMES.service)
    if port == 53:
        assert steps[behind[0]].needs["google.com"] == ("node-0/pod 10.244.0.11/172.25.4.1:53",)
    assert steps[f"node-0/host/{SERVICE}:53"].needs[NAMES.service] == behind


def test_only_one_pod_of_a_node_asks_each_endpoint() -> None:
    fleet = cluster()
    fleets.add_pod(fleet["node-0"], "172.26.2.145", "172.26.2.146", 4711, SERVICE)
    steps = walked(fleet)
    first, second = (steps[f"node-0/pod 172.26.2.{last}/{SERVICE}:53"] for last in (145, 146))
    assert second.needs == first.needs
    assert {step.source for step in steps.values() if step.stage == "pod to endpoint"} == {"172.26.2.145"}


@pytest.mark.parametrize("domains", [3, 30])
def test_bounds(domains: int) -> None:
    fleet = fleets.recorded()
    given = [option("server", f"/d{number}.example/10.9.{number}.1", number) for number in range(domains)]
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "10.8.0.1"), *given)
    steps = walked(fleet)
    assert max(len(step.questions) for step in steps.values()) <= path.MOST_DOMAINS + 1


def test_dnsmasqs_that_ask_each_other_are_followed_to_the_end() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "172.25.4.2"))
    fleets.set_upstreams(fleet["node-1"], option("no-resolv", None), option("server", "172.25.4.1"))
    steps = walked(fleet)
    there, back = steps["node-0/dnsmasq/172.25.4.2:53"], steps["node-1/dnsmasq/172.25.4.1:53"]
    assert (there.owner, back.owner) == ("node-1", "node-0")
    assert there.needs["google.com"] == (back.id,)
    assert back.needs["google.com"] == (there.id,)


@pytest.mark.parametrize("domain", ["a" * 64, "sp ace.example", "back\\slash", "x." * 130 + "x"])
def test_a_domain_that_is_no_name_is_not_asked_for(domain: str) -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", f"/{domain}/10.9.9.1"))
    assert "10.9.9.1" not in {step.destination for step in walked(fleet).values()}


def test_an_endpoint_that_is_none_is_not_asked() -> None:
    steps = walked(cluster(), endpoints={SERVICE: ["10.244.0.11:dns", "nowhere:53", "10.244.0.13:53"]})
    assert {step.destination for step in steps.values() if step.stage == "pod to endpoint"} >= {"10.244.0.13"}


def test_a_name_goes_where_its_own_domain_goes() -> None:
    steps = walked(fleets.recorded(), Names("www.zju.edu.cn", "-"))
    assert steps["node-0/host/172.25.4.1:53"].needs["www.zju.edu.cn"] == ("node-0/dnsmasq/10.10.0.21:53",)


def test_a_link_for_one_domain_is_asked_for_that_alone() -> None:
    fleet = fleets.recorded()
    resolved = fleet["node-0"]["resolved"]["value"]
    assert resolved
    resolved["servers"], resolved["domains"], resolved["uplinks"] = [], [], ["10.0.0.2", "10.8.0.1"]
    resolved["links"] = [
        {"interface": "bond0", "servers": ["10.0.0.2"], "domains": ["example.com"]},
        {"interface": "wg0", "servers": ["10.8.0.1"], "domains": ["~corp.example"]},
    ]
    steps = walked(fleet)
    asked = {
        name: [question.name for question in steps[f"node-0/host/{name}:53"].questions]
        for name in ("10.0.0.2", "10.8.0.1")
    }
    assert asked == {"10.0.0.2": ["google.com"], "10.8.0.1": ["corp.example"]}
    assert steps["node-0/host/127.0.0.53:53"].needs["google.com"] == ("node-0/host/10.0.0.2:53",)
    resolved["tls"] = True
    assert not {"10.0.0.2", "10.8.0.1"} & {step.destination for step in walked(fleet).values()}


def test_a_vpn_with_many_domains_leaves_dnsmasqs_to_be_asked_for() -> None:
    fleet = fleets.recorded()
    for read in fleet.values():
        assert read["resolved"]["value"]
        domains = [f"~{number}.10.in-addr.arpa" for number in range(30)]
        read["resolved"]["value"]["links"] = [{"interface": "vpn0", "servers": ["10.8.0.1"], "domains": domains}]
    asked = {question.name for step in walked(fleet).values() for question in step.questions}
    assert {"clusters.zjusct.io", "zju.edu.cn"} <= asked
