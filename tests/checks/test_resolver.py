"""RESOLVER-001 on recorded nodes, and on the lab's with each circle injected."""

from __future__ import annotations

import pytest
from pyinfra.api.host import Host

from checks import resolver_001
from checks.case import Case
from checks.finding import Finding, Status
from facts import snapshot
from facts.snapshot import Snapshot
from lab.api import Lab
from models import node, upstreams
from tests.models import fleets
from tests.models.fleets import Fleet, option


def judged(fleet: Fleet, name: str = "node-0") -> list[Finding]:
    return resolver_001.check(Case(name, fleet, node.vips(fleet, None)[name], []))


def test_healthy() -> None:
    (finding,) = judged(fleets.recorded())
    assert finding["status"] == Status.PASS
    assert "dnsmasq (node-0)" in finding["sentence"]


def test_the_circle_is_named_with_its_lines() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(fleet["node-0"], option("no-resolv", None), option("server", "/zju.edu.cn/127.0.0.53", 4))
    (finding,) = judged(fleet)
    assert finding["status"] == Status.FAIL
    assert finding["sentence"] == (
        "questions for zju.edu.cn go round: dnsmasq (node-0) -> systemd-resolved (node-0) -> dnsmasq (node-0):"
        f" server=/zju.edu.cn/127.0.0.53 ({fleets.FILE}:4); systemd-resolved's server 172.25.4.1"
    )
    assert len(finding["evidence"]) == 2


def test_what_dnsmasq_ignores_is_a_warning() -> None:
    fleet = fleets.recorded()
    fleets.set_upstreams(
        fleet["node-0"], option("no-resolv", None), option("server", "172.25.4.1"), option("server", "192.18.0.2")
    )
    (finding,) = judged(fleet)
    assert finding["status"] == Status.WARN
    assert "has itself among its servers" in finding["sentence"]


def test_a_pod_with_the_stub_file() -> None:
    fleet = fleets.recorded()
    fleets.pod(fleet["node-0"], "172.26.2.145")["nameservers"] = ["127.0.0.53"]
    (finding,) = judged(fleet)
    assert finding["status"] == Status.FAIL
    assert finding["sentence"].startswith("pod 172.26.2.145 has nameserver 127.0.0.53")


@pytest.mark.parametrize("section", ["dnsmasq", "resolved", "pods"])
def test_what_could_not_be_read_is_unknown(section: str) -> None:
    fleet = fleets.recorded()
    fleet["node-0"][section]["state"] = "timed out"  # type: ignore[literal-required]
    (finding,) = judged(fleet)
    assert finding["status"] == Status.UNKNOWN


def test_no_resolver() -> None:
    fleet = fleets.recorded()
    read: Snapshot = fleet["node-0"]
    read["resolved"] = fleets.reading(None)
    read["pods"] = fleets.reading([])
    read["dnsmasq"]["value"]["instances"] = []
    (finding,) = judged({"node-0": read})
    assert finding["status"] == Status.SKIP


def now(hosts: list[Host]) -> dict[str, list[Finding]]:
    for host in hosts:
        snapshot.forget(host)
    fleet = snapshot.fleet(hosts)
    vips = node.vips(fleet, None)
    return {name: resolver_001.check(Case(name, fleet, vips[name], [])) for name in fleet}


@pytest.mark.lab
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "resolver-loop",
            "questions go round: dnsmasq (node-0) -> systemd-resolved (node-0) -> dnsmasq (node-0): server=127.0.0.53"
            " (/etc/dnsmasq.d/20-upstreams.conf:6); systemd-resolved's server 172.25.4.1",
        ),
        (
            "resolver-loop-pod",
            "resolver (node-0/pod 172.26.2.53) asks itself: nameserver 127.0.0.53 in its resolv.conf, which is the pod"
            " itself there",
        ),
    ],
)
def test_on_the_lab(healed: Lab, reached_all: list[Host], fault: str, sentence: str) -> None:
    healed.inject(fault, "node-0")
    found = now(reached_all)
    (finding,) = found["node-0"]
    assert (finding["status"], finding["sentence"]) == (Status.FAIL, sentence)
    for other in ("node-1", "node-2"):
        assert [one["status"] for one in found[other]] == [Status.PASS]


@pytest.mark.lab
def test_a_healthy_lab(healed: Lab, reached_all: list[Host]) -> None:
    assert {one["status"] for findings in now(reached_all).values() for one in findings} == {Status.PASS}


_VPN = """
ip link add wg0 type veth peer name wg1
ip link set wg0 up
resolvectl dns wg0 10.8.0.1
resolvectl domain wg0 '~corp.example'
resolvectl dnsovertls wg0 "$1"
resolvectl default-route wg0 no
"""


@pytest.mark.lab
@pytest.mark.parametrize("tls", ["yes", "opportunistic"])
def test_what_a_link_of_the_lab_is_asked_for(healed: Lab, reached_all: list[Host], tls: str) -> None:
    lab_node = healed.node("node-0")
    try:
        lab_node.run(["sh", "-ec", _VPN, "sh", tls])
        for host in reached_all:
            snapshot.forget(host)
        read = snapshot.fleet(reached_all)["node-0"]
    finally:
        lab_node.run(["ip", "link", "delete", "wg0"], check=False)
    assert read and read["resolved"]["value"]
    assert read["resolved"]["value"]["links"] == [
        {
            "interface": "wg0",
            "servers": ["10.8.0.1"],
            "domains": ["~corp.example"],
            "default_route": False,
            "tls": tls == "yes",
        }
    ]
    asked = [(one.domain, one.address) for one in upstreams.of_resolved(read)]
    assert asked == [("", "172.25.4.1"), *([] if tls == "yes" else [("corp.example", "10.8.0.1")])]
