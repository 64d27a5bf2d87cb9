"""The checks of connection tracking: each fires on a healthy fleet with one thing changed, and only it."""

from __future__ import annotations

from typing import Any

import pytest

from checks.finding import Status
from facts.conntrack import Conntrack, DnsFlows
from facts.snapshot import Snapshot
from operations.conntrack import delete_command, dns_flows
from tests.checks.kube_fleet import SAMPLES, VIP, fleet, judged, node, reading, statuses, without_kubernetes

DROPPED = (SAMPLES / "conntrack-S_full.txt").read_text().splitlines()[1]


def tracked(count: int, maximum: int, counters: str = DROPPED) -> Snapshot:
    bent = node()
    bent["conntrack"] = reading(Conntrack().read([f"table {count} {maximum}", f"tool {counters}"]))
    return bent


def complaint(bent: Snapshot, ago: float) -> Snapshot:
    system: Any = bent["system"]["value"]
    last = f"[{system['uptime_s'] - ago:12.6f}] nf_conntrack: nf_conntrack: table full, dropping packet"
    bent["kernel_log"] = reading([{"about": "conntrack table full", "times": 4, "last": last}])
    return bent


@pytest.mark.parametrize(
    ("bent", "drops", "status"),
    [
        (tracked(10, 20), None, Status.PASS),
        (tracked(20, 20), None, Status.FAIL),
        (tracked(19, 20, "cpu=0 drop=0"), None, Status.WARN),
        (tracked(10, 20), 12, Status.FAIL),
        (tracked(20, 20), 0, Status.WARN),
        (complaint(tracked(10, 20), ago=20), None, Status.FAIL),
        (complaint(tracked(10, 20), ago=20), 0, Status.PASS),
        (complaint(tracked(10, 20), ago=4000), None, Status.PASS),
    ],
)
def test_001_drops_tell_and_the_count_warns(bent: Snapshot, drops: int | None, status: Status) -> None:
    found = judged(fleet() | {"node-0": bent}, drops=drops)
    assert found["CONNTRACK-001"]["status"] == status
    assert set(statuses(found)) <= {"CONNTRACK-001"}
    assert found["CONNTRACK-001"]["operation"] == ("" if status == Status.PASS else "sysctl.settings")
    assert any(line.startswith("count=") and "drop=" in line for line in found["CONNTRACK-001"]["evidence"])


def test_001_is_for_nodes_without_kubernetes_too() -> None:
    bent = node()
    without_kubernetes(bent)
    assert judged({"node-0": bent})["CONNTRACK-001"]["status"] == Status.SKIP
    bent["conntrack"] = tracked(20, 20)["conntrack"]
    assert judged({"node-0": bent})["CONNTRACK-001"]["status"] == Status.FAIL


def test_001_a_log_that_may_not_be_read_is_no_matter() -> None:
    nodes = fleet()
    nodes["node-0"]["kernel_log"] = {"state": "not permitted", "value": [], "detail": "dmesg: Operation not permitted"}
    assert statuses(judged(nodes)) == {}


def test_002_flows_to_a_dead_pod() -> None:
    nodes = fleet()
    nodes["node-0"]["dns_flows"] = reading(
        DnsFlows().read([f"ipv4 udp {VIP} 10.244.9.99 6 6 29", f"ipv4 udp {VIP} 10.244.0.11 3 0 29"])
    )
    found = judged(nodes)
    assert statuses(found) == {"CONNTRACK-002": Status.FAIL}
    assert found["CONNTRACK-002"]["operation"] == "conntrack.flush"
    assert found["CONNTRACK-002"]["sentence"] == (
        f"6 UDP flows to {VIP} are pinned to 10.244.9.99, which is no real server; 6 of them have no answer"
    )
    assert found["CONNTRACK-002"]["evidence"] == [
        f"udp {VIP}:53 answered by 10.244.9.99: 6 flows, 6 unreplied, for up to 29 s"
    ]


@pytest.mark.parametrize(
    ("flow", "status"),
    [
        (f"ipv4 udp {VIP} 10.244.0.12 6 0 29", Status.WARN),
        (f"ipv4 tcp {VIP} 10.244.0.12 6 0 110", Status.PASS),
        (f"ipv4 udp {VIP} {VIP} 6 6 29", Status.PASS),
        ("ipv4 udp 192.0.2.53 192.0.2.1 6 6 29", Status.PASS),
    ],
)
def test_002_what_is_not_stuck(flow: str, status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["dns_flows"] = reading(DnsFlows().read([flow]))
    found = judged(nodes)
    assert found["CONNTRACK-002"]["status"] == status
    assert set(statuses(found)) <= {"CONNTRACK-002"}


def test_002_an_ipv6_service_as_the_kernels_file_writes_it() -> None:
    vip, dead = "fd00:10:96::a", "fd26:0000:0000:0000:0000:0000:0000:0099"
    nodes = fleet()
    flows = DnsFlows().read([f"ipv6 udp fd00:0010:0096:0000:0000:0000:0000:000a {dead} 6 6 29"])
    nodes["node-0"]["dns_flows"] = reading(flows)
    found = judged(nodes, endpoints={VIP: ["10.244.0.11:53", "10.244.0.13:53"], vip: ["[fd26::11]:53"]})
    assert found["CONNTRACK-002"]["status"] == Status.FAIL
    assert found["CONNTRACK-002"]["sentence"].startswith(f"6 UDP flows to {vip} are pinned to fd26::99, which is no")
    assert dns_flows(flows, [vip]) == {vip: 6}
    assert f" --orig-dst {vip} " in delete_command(vip)
