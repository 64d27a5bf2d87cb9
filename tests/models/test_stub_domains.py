"""Who is asked for a domain that somebody has upstreams of its own for: those who are meant to know it."""

from __future__ import annotations

import pytest

from models.path import Names, Step
from tests.models import fleets
from tests.models.fleets import Fleet, option, reading
from tests.models.test_path import NAMES, SERVICE, cluster, walked

STUB = "corp.local"
COREFILE = "{zone}:53 {{\n    forward . {to}\n}}\n.:53 {{\n    forward . /etc/resolv.conf\n}}\n"


def knowing(fleet: Fleet, to: str, zone: str = STUB) -> Fleet:
    """The CoreDNS pods have a server block for the stub domain."""
    for name, address in (("node-0", "10.244.0.11"), ("node-1", "10.244.0.13")):
        pod = fleets.pod(fleet[name], address)
        corefile = COREFILE.format(zone=zone, to=to)
        process = {"netns": pod["netns"], "pid": pod["pid"], "path": "/etc/coredns/Corefile", "corefile": corefile}
        fleet[name]["coredns"] = reading([process])
    return fleet


def asked(steps: dict[str, Step], name: str = STUB) -> set[str]:
    """The steps that are asked for it."""
    return {step.id for step in steps.values() if name in {question.name for question in step.questions}}


def routes(fleet: Fleet, *domains: str) -> None:
    """The search and routing domains of every node's systemd-resolved."""
    for read in fleet.values():
        assert read["resolved"]["value"]
        read["resolved"]["value"]["domains"] = list(domains)


def test_a_stub_domain_of_coredns_is_asked_only_on_the_way_through_it() -> None:
    steps = walked(knowing(cluster(), "10.1.0.5"))
    assert asked(steps) == {
        f"node-0/pod 172.26.2.145/{SERVICE}:53",
        "node-0/pod 172.26.2.145/10.244.0.11:53",
        "node-0/pod 172.26.2.145/10.244.0.13:53",
        f"node-0/host/{SERVICE}:53",
        f"node-1/host/{SERVICE}:53",
        "node-0/pod 10.244.0.11/10.1.0.5:53",
        "node-1/pod 10.244.0.13/10.1.0.5:53",
    }
    first = steps[f"node-0/pod 172.26.2.145/{SERVICE}:53"]
    assert set(first.needs[STUB]) == {f"node-0/pod 172.26.2.145/10.244.0.{last}:53" for last in (11, 13)}
    assert steps["node-0/pod 172.26.2.145/10.244.0.11:53"].needs[STUB] == ("node-0/pod 10.244.0.11/10.1.0.5:53",)


def test_a_zone_that_coredns_answers_itself_is_handed_on_to_nobody() -> None:
    fleet = knowing(cluster(), "10.1.0.5")
    for read in fleet.values():
        read["coredns"]["value"][0]["corefile"] += f"own.{STUB}:53 {{\n    file db\n}}\n"
    fleets.set_upstreams(fleet["node-0"], option("server", "10.8.0.1"), option("server", f"/own.{STUB}/{SERVICE}"))
    steps = walked(fleet)
    assert f"node-0/dnsmasq/{SERVICE}:53" in asked(steps, f"own.{STUB}")
    assert steps["node-0/pod 172.26.2.145/10.244.0.11:53"].needs[f"own.{STUB}"] == ()


def test_a_domain_that_the_policy_has_a_name_for_is_asked_everywhere() -> None:
    names = Names(NAMES.default, NAMES.service, {STUB: "www.corp.local"})
    steps = walked(knowing(cluster(), "10.1.0.5"), names)
    assert {"node-0/host/127.0.0.53:53", "node-1/host/172.25.4.2:53"} <= asked(steps, "www.corp.local")


def test_who_is_handed_a_stub_domain_is_asked_for_it_and_whom_he_asks() -> None:
    """CoreDNS hands it to dnsmasq, which has no upstream of its own for it: that is the way, all the same."""
    fleet = knowing(cluster(), "172.25.4.1")
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "10.8.0.1"))
    found = asked(walked(fleet))
    assert {"node-0/pod 10.244.0.11/172.25.4.1:53", "node-0/dnsmasq/10.8.0.1:53"} <= found
    assert "node-0/host/127.0.0.53:53" not in found


@pytest.mark.parametrize(("domains", "there"), [([], False), (["example.com"], False), (["~corp.local"], True)])
def test_systemd_resolved_keeps_local_to_itself_unless_it_is_routed(domains: list[str], there: bool) -> None:
    fleet = fleets.recorded()
    for read in fleet.values():
        fleets.set_upstreams(read, option("server", "10.8.0.1"), option("server", f"/{STUB}/10.1.0.5"))
    routes(fleet, *domains)
    found = asked(walked(fleet))
    assert ("node-0/host/127.0.0.53:53" in found) is there
    assert {"node-0/host/172.25.4.1:53", "node-0/dnsmasq/10.1.0.5:53"} <= found
    assert "node-0/dnsmasq/10.8.0.1:53" not in found


def test_other_domains_go_through_systemd_resolved() -> None:
    fleet = fleets.recorded()
    routes(fleet)
    assert "node-0/host/127.0.0.53:53" in asked(walked(fleet), "zju.edu.cn")


def test_a_stranger_is_not_asked_for_a_stub_domain() -> None:
    fleet = fleets.recorded()
    client = fleets.pod(fleet["node-0"], "172.26.2.145")
    client["nameservers"] = ["10.9.9.9"]
    stranger = walked(fleet)["node-0/pod 172.26.2.145/10.9.9.9:53"]
    assert [question.name for question in stranger.questions] == ["google.com"]


def test_an_upstream_far_down_the_list_is_found() -> None:
    fleet = fleets.recorded()
    many = [option("server", f"/d{number}.example/10.9.{number}.1", number) for number in range(20)]
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), *many, option("server", "10.8.0.1"))
    assert "node-0/dnsmasq/10.8.0.1:53" in asked(walked(fleet), NAMES.default)
