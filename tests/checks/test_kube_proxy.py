"""The checks of kube-proxy itself: each fires on a healthy fleet with one thing changed, and only it."""

from __future__ import annotations

import pytest

from checks.finding import Status
from facts.kube_proxy_answer import Proxy, Sync, read_proxy
from facts.snapshot import Snapshot
from models.kube_services import Mode
from tests.checks.kube_fleet import fleet, judged, kube_proxy_sample, reading, statuses


def proxy(node: Snapshot) -> Proxy:
    value = node["kube_proxy"]["value"]
    assert value
    return value


def kubelet_only(*lines: str) -> Proxy:
    read = read_proxy(["kubelet 900", *lines])
    assert read
    return read


def test_001_a_unit_that_does_not_run() -> None:
    nodes = fleet()
    read = proxy(nodes["node-0"])
    read["pid"], read["sync"], read["health"], read["answers"], read["version"] = 0, None, 0, False, ""
    found = judged(nodes)
    assert statuses(found) == {"KUBEPROXY-001": Status.FAIL, "KUBEPROXY-002": Status.SKIP}
    assert found["KUBEPROXY-001"]["operation"] == "kube_proxy.restart"
    assert found["KUBEPROXY-001"]["sentence"] == (
        "kube-proxy does not run (kube-proxy.service): its rules stay as they were"
    )


def test_001_no_kube_proxy_where_others_have_one() -> None:
    nodes = fleet()
    nodes["node-0"]["kube_proxy"] = reading(kubelet_only())
    found = judged(nodes)
    assert found["KUBEPROXY-001"]["status"] == Status.FAIL
    assert found["KUBEPROXY-001"]["sentence"] == "no kube-proxy on this node, though node-1 and node-2 have one"


@pytest.mark.parametrize("said", [["cilium 812 true"], ["cilium 812 "]])
def test_001_cilium_instead(said: list[str]) -> None:
    nodes = fleet()
    nodes["node-0"]["kube_proxy"] = reading(kubelet_only(*said))
    assert judged(nodes)["KUBEPROXY-001"]["status"] == Status.SKIP


def test_001_a_cluster_without_kube_proxy() -> None:
    nodes = fleet()
    for node in nodes.values():
        node["kube_proxy"] = reading(kubelet_only())
    assert judged(nodes)["KUBEPROXY-001"]["sentence"] == "no kube-proxy on any node"


def failing() -> Sync:
    """As it was recorded: every sync aborted, healthz at 200."""
    clock, *metrics = kube_proxy_sample("kube-proxy-metrics_sync_failing.txt")[:-1]
    read = read_proxy(
        [
            "process 2335 kube-proxy L3Vzci9iaW4va3ViZS1wcm94eQ==",
            f"clock {clock}",
            *(f"metric {line}" for line in metrics),
        ]
    )
    assert read and read["sync"]
    return read["sync"]


def test_002_every_sync_aborts() -> None:
    nodes = fleet()
    proxy(nodes["node-0"])["sync"] = failing()
    found = judged(nodes)
    assert statuses(found) == {"KUBEPROXY-002": Status.FAIL}
    assert found["KUBEPROXY-002"]["operation"] == "kube_proxy.restart"
    assert found["KUBEPROXY-002"]["sentence"] == (
        "no sync has ever succeeded since kube-proxy started, although healthz says 200"
    )
    assert "kubeproxy_sync_proxy_rules_last_timestamp_seconds 0" in found["KUBEPROXY-002"]["evidence"]


@pytest.mark.parametrize(
    ("period", "age", "status"),
    [
        (0.0, 59.0, Status.PASS),
        (0.0, 61.0, Status.FAIL),
        (300.0, 599.0, Status.PASS),
        (10.0, 21.0, Status.FAIL),
        (0.0, -3.0, Status.PASS),
    ],
)
def test_002_the_limit_is_twice_the_sync_period(period: float, age: float, status: Status) -> None:
    nodes = fleet()
    read = proxy(nodes["node-0"])
    read["config"]["sync_period"] = period
    read["sync"] = {"last": 1000.0, "last_queued": 1000.0, "clock": 1000.0 + age, "restore_failures": 0}
    assert judged(nodes)["KUBEPROXY-002"]["status"] == status


@pytest.mark.parametrize(
    ("age", "queued", "status"),
    [
        # Nothing has changed for a while: with these modes there is nothing to write.
        (61.0, -5.0, Status.PASS),
        (3600.0, -5.0, Status.PASS),
        (3661.0, -5.0, Status.FAIL),
        (40.0, 39.0, Status.PASS),
        # A change that came 59 s and 61 s ago, and is not written.
        (900.0, 841.0, Status.WARN),
        (900.0, 839.0, Status.FAIL),
    ],
)
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_002_without_ipvs_only_what_waits_is_late(mode: Mode, age: float, queued: float, status: Status) -> None:
    nodes = fleet()
    read = proxy(nodes["node-0"])
    read["mode"] = mode
    read["sync"] = {"last": 1000.0, "last_queued": 1000.0 + queued, "clock": 1000.0 + age, "restore_failures": 0}
    assert judged(nodes)["KUBEPROXY-002"]["status"] == status


def test_002_changes_that_are_asked_for_all_the_time_are_no_success() -> None:
    nodes = fleet()
    read = proxy(nodes["node-0"])
    read["sync"] = {"last": 0.0, "last_queued": 1000.0, "clock": 1005.0, "restore_failures": 0}
    assert judged(nodes)["KUBEPROXY-002"]["status"] == Status.FAIL


def test_002_without_metrics_it_is_unknown() -> None:
    nodes = fleet()
    proxy(nodes["node-0"])["sync"] = None
    assert statuses(judged(nodes)) == {"KUBEPROXY-002": Status.UNKNOWN}
