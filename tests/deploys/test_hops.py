"""Walking the path of a query on the lab's nodes: each fault is found at its hop, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import paramiko
import pytest
from pyinfra.api.host import Host

from checks import blame
from checks.diagnosis import Hop
from deploys import hops, policy
from facts import snapshot
from lab.api import Lab
from models import node, path
from probes.hops import ROUNDS
from probes.probe import probe
from tests.deploys.nodes import state

pytestmark = pytest.mark.lab

POD, VIP = "node-0/pod 172.26.2.145/172.26.2.53:53", "node-0/pod 172.26.2.53/172.25.4.1:53"
STUB, HOST = "node-0/host/127.0.0.53:53", "node-0/host/172.25.4.1:53"
CAMPUS, OTHER = "node-0/dnsmasq/10.10.0.21:53", "node-0/dnsmasq/192.18.0.2:53"

Walked = Callable[[], list[Hop]]


def walk(hosts: list[Host]) -> hops.Walk:
    for host in hosts:
        snapshot.forget(host)
    fleet = snapshot.fleet(hosts)
    how = policy.walking(policy.of(hosts[0]))
    return hops.walk(hosts, path.steps(fleet, node.vips(fleet, None), [], {}, how.names, how.pods), how)


@pytest.fixture
def walked(healed: Lab, reached_all: list[Host]) -> Walked:
    return lambda: walk(reached_all).hops


def test_a_healthy_fleet(healed: Lab, reached_all: list[Host], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    real = paramiko.SSHClient.exec_command

    def counted(self: paramiko.SSHClient, command: str, *args: object, **kwargs: object) -> object:
        sent.append(command)
        return real(self, command, *args, **kwargs)  # type: ignore[arg-type]

    fleet = snapshot.fleet(reached_all)
    before = {name: state(healed.node(name)) for name in fleet}
    monkeypatch.setattr(paramiko.SSHClient, "exec_command", counted)
    given = {host: [probe("172.25.4.2", "version.bind", "TXT", rdclass="CH", tries=3)] for host in reached_all}
    how = policy.walking(policy.of(reached_all[0]))
    steps = path.steps(fleet, node.vips(fleet, None), [], {}, how.names, how.pods)
    found = hops.walk(reached_all, steps, how, given)

    assert len(sent) <= ROUNDS * len(reached_all)
    assert max(map(len, sent)) < 100_000
    assert {name: state(healed.node(name)) for name in fleet} == before
    assert {hop["state"] for hop in found.hops} == {"ok"}
    assert blame.follows(found.hops) == {}
    assert {hop["id"] for hop in found.hops if hop["node"] == "node-0"} == {
        POD,
        VIP,
        STUB,
        HOST,
        CAMPUS,
        OTHER,
        "node-0/dnsmasq/172.28.0.2:53",
    }
    for hop in found.hops:
        udp = [one for one in hop["losses"] if one["protocol"] == "udp"]
        # Not one lost of 135: a loss of 5% would be seen 999 times in 1000.
        assert sum(one["sent"] for one in udp) >= 135
        assert all(one["unknown"] == 0 and one["median_ms"] is not None for one in hop["losses"])
    assert all(len(results) > 50 for results in found.results.values())
    assert all(results[0]["probe"] == given[host][0] for host in reached_all for results in [found.results[host.name]])


@pytest.mark.parametrize(
    ("fault", "culprit", "followers"),
    [
        ("dnsmasq-except-cilium", VIP, {POD}),
        ("dnsmasq-cannot-start-bind-conflict", HOST, {POD, VIP, STUB}),
        ("upstream-dead", CAMPUS, {POD, VIP, STUB, HOST}),
        ("resolver-loop", "node-0/dnsmasq/127.0.0.53:53", {POD, VIP, STUB, HOST}),
        ("resolver-loop-pod", "node-0/pod 172.26.2.53/127.0.0.53:53", {POD}),
    ],
)
def test_the_first_losing_hop(walked: Walked, healed: Lab, fault: str, culprit: str, followers: set[str]) -> None:
    healed.inject(fault, "node-0")
    found = walked()
    blamed = blame.follows(found)
    assert list(blamed) == [culprit]
    # A resolver pod may still remember an answer, for five seconds.
    assert set(blamed[culprit]) <= followers and bool(blamed[culprit]) == bool(followers)
    assert "all of" in blame.sentence(blame.first_losing(found)[0])
    assert {hop["node"] for hop in found if hop["state"] != "ok"} == {"node-0"}


@pytest.mark.parametrize(
    ("fault", "culprit", "share"),
    [("loss-50", VIP, 0.5), ("loss-20", VIP, 0.2), ("loss-5", VIP, 0.05), ("upstream-loss-20", OTHER, 0.2)],
)
def test_a_share_that_is_lost(walked: Walked, healed: Lab, fault: str, culprit: str, share: float) -> None:
    healed.inject(fault, "node-0")
    found = walked()
    assert [hop["id"] for hop in blame.first_losing(found)] == [culprit]
    (hop,) = (hop for hop in found if hop["id"] == culprit)
    udp = [one for one in hop["losses"] if one["protocol"] == "udp" and one["lost"]]
    # The 95% interval of one name misses the share once in twenty runs: here four deviations are allowed.
    sent, lost = sum(one["sent"] for one in udp), sum(one["lost"] for one in udp)
    assert abs(lost / sent - share) < 4 * (share * (1 - share) / sent) ** 0.5
    assert not any(one["lost"] for one in hop["losses"] if one["protocol"] == "tcp")


def test_two_faults_at_once(walked: Walked, healed: Lab) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0")
    healed.inject("upstream-dead", "node-0")
    assert set(blame.follows(walked())) == {VIP, CAMPUS}


def test_only_tcp(walked: Walked, healed: Lab) -> None:
    healed.inject("dnsmasq-listen-vip", "node-0")
    found = walked()
    assert [hop["id"] for hop in blame.first_losing(found)] == [VIP]
    (hop,) = (hop for hop in found if hop["id"] == VIP)
    assert {one["protocol"] for one in blame.losing(hop)} == {"tcp"}
