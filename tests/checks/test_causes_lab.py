"""The checks of firewalls and of the kernel's settings, seen to fire on real nodes and to pass when they are healed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyinfra.api.host import Host

from checks.case import Case
from checks.catalogue import CHECKS
from checks.finding import Finding, Status
from facts import snapshot
from facts.snapshot import Snapshot
from lab.api import Lab
from models import conntrack, datagrams, kube_services, node
from probes.fleet import answers
from probes.probe import Probe, pod, probe

pytestmark = pytest.mark.lab

MINE = [name for name in CHECKS if name.startswith(("CONNTRACK-003", "FIREWALL", "IPTABLES-00", "KERNEL", "NETWORKD"))]

Look = Callable[[], dict[str, Finding]]


@pytest.fixture
def look(healed: Lab, reached_all: list[Host]) -> Look:
    """Reads node-0, asks its own address, another node's and the services' from its pods, reads again, and judges."""
    host = next(one for one in reached_all if one.name == "node-0")

    def read() -> Snapshot:
        snapshot.forget(host)
        found = snapshot.of(host)
        assert found is not None
        return found

    def run(between: Callable[[], object] = lambda: None) -> dict[str, Finding]:
        before = read()
        addresses = [healed.node(name).plan.vip for name in ("node-0", "node-1")]
        asking: list[Probe] = [
            probe(to, "www.example.com", source=pod(one.name, one.pid, address=one.address), tries=2, deadline_s=0.5)
            for one in node.askers(before)
            if one.kubernetes
            for to in (*addresses, *kube_services.vips({"node-0": before}, {}))
        ]
        results = answers({host: asking})["node-0"]
        between()
        after = read()
        case = Case(
            "node-0",
            {"node-0": before},
            [healed.node("node-0").plan.vip],
            results,
            clashes=conntrack.clashes(before, after),
            bad_checksums=datagrams.bad_checksums(before, after),
        )
        # The worst finding of each check.
        order = [Status.SKIP, Status.PASS, Status.WARN, Status.UNKNOWN, Status.FAIL]
        return {name: max(CHECKS[name](case), key=lambda finding: order.index(finding["status"])) for name in MINE}

    return run


def bad(found: dict[str, Finding]) -> dict[str, Status]:
    return {name: one["status"] for name, one in found.items() if one["status"] not in (Status.PASS, Status.SKIP)}


def test_a_healthy_node(look: Look) -> None:
    assert bad(look()) == {}


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        (
            "forward-drop-nft",
            "FIREWALL-001",
            "FORWARD of nft for IPv4 drops what pod 172.26.2.145 asks: policy FORWARD DROP",
        ),
        ("forward-drop-legacy", "FIREWALL-001", "FORWARD of legacy for IPv4 drops what pod 172.26.2.145 asks"),
        ("conntrack-race", "CONNTRACK-003", "packets lost the race between two reads"),
        ("rp-filter-strict", "KERNEL-001", "the way back to pod 172.26.2.145 is cilium_host"),
        ("bridge-nf-off", "KERNEL-002", "net.bridge.bridge-nf-call-iptables is 0: an answer that crosses cni0"),
        ("firewalld", "FIREWALL-002", "inet firewalld ends with reject with icmpx admin-prohibited"),
        ("rules-repeated", "IPTABLES-005", "a rule stands 1200 times in nft for IPv4: filter: -A KUBE-FIREWALL"),
    ],
)
def test_a_fault_is_named_and_gone_when_healed(healed: Lab, look: Look, fault: str, check: str, words: str) -> None:
    healed.inject(fault, "node-0")
    found = look()
    assert bad(found) == {check: Status.FAIL}, found
    assert words in found[check]["sentence"]
    healed.heal("node-0")
    assert bad(look()) == {}


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("networkd-manages-pods", "NETWORKD-001", "(/etc/systemd/network/99-all.network)"),
        ("bad-checksums", "KERNEL-004", "datagrams with a wrong checksum were thrown away between two reads"),
    ],
)
def test_what_loses_nothing_of_pods_is_a_warning(healed: Lab, look: Look, fault: str, check: str, words: str) -> None:
    healed.inject(fault, "node-0")
    found = look()
    assert bad(found) == {check: Status.WARN}, found
    assert words in found[check]["sentence"]
    healed.heal("node-0")
    assert bad(look()) == {}
