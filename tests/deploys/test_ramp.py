"""What a load test would ask of a node, and what keeps it from asking: pure, on recorded nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploys import ramp
from facts.snapshot import Snapshot
from probes.blast import Load, planned
from tests.checks import kube_fleet

RAMP = ramp.Ramp((10, 100, 500, 1000), 3.0, None, "kubernetes.default.svc.cluster.local", 2.0)
NODE_VIP = "172.25.4.1"


def planned_for(node: Snapshot, vips: list[str], services: list[str], how: ramp.Ramp = RAMP) -> list[list[Load]]:
    made = ramp.plan(node, vips, services, how)
    assert not isinstance(made, str), made
    return made


@pytest.fixture
def node() -> Snapshot:
    return kube_fleet.node()


def test_both_kinds_of_address_are_asked_from_host_and_pod(node: Snapshot) -> None:
    own, service = planned_for(node, [NODE_VIP], [kube_fleet.VIP])
    assert [(load["question"]["source"]["name"], load["rate"]) for load in own[:4]] == [
        ("host", 10),
        ("pod 172.26.2.145", 10),
        ("host", 100),
        ("pod 172.26.2.145", 100),
    ]
    assert {(load["question"]["name"], load["question"]["rdclass"]) for load in own} == {("version.bind", "CH")}
    assert {load["question"]["name"] for load in service} == {"kubernetes.default.svc.cluster.local"}
    assert sum(map(planned, own)) == 2 * 3 * 1610


def test_the_name_is_policy(node: Snapshot) -> None:
    ladders = planned_for(node, [NODE_VIP], [kube_fleet.VIP], replace(RAMP, name="zju.edu.cn"))
    asked = {(load["question"]["name"], load["question"]["rdclass"]) for ladder in ladders for load in ladder}
    assert asked == {("zju.edu.cn", "IN")}


def test_a_node_that_serves_nothing_and_knows_no_service(node: Snapshot) -> None:
    assert ramp.plan(node, [], [], RAMP) == "it serves no DNS address, and knows no DNS service of the cluster"


def test_a_node_without_a_pod_is_not_compared(node: Snapshot) -> None:
    node["pods"] = kube_fleet.reading([])
    assert ramp.plan(node, [NODE_VIP], [], RAMP) == "no pod of this node can ask 172.25.4.1"


def test_a_pod_of_the_other_family_cannot_ask(node: Snapshot) -> None:
    assert ramp.plan(node, ["fd00::1"], [], RAMP) == "no pod of this node can ask fd00::1"


def test_a_pod_behind_the_service_is_not_asked_from(node: Snapshot) -> None:
    table = node["ipvs"]["value"]
    assert table is not None
    for service in table["services"]:
        for server in service["servers"]:
            server["address"] = "172.26.2.145"
    (ladder,) = planned_for(node, [], [kube_fleet.VIP])
    assert {load["question"]["source"]["name"] for load in ladder} == {"host", "pod 172.26.2.53"}


def test_more_than_a_node_may_take_is_refused(node: Snapshot) -> None:
    said = ramp.plan(node, [NODE_VIP], [kube_fleet.VIP], replace(RAMP, seconds=4.0))
    assert said == "64 s of asking are more than the 60 s that one node may take in a run"
    said = ramp.plan(node, [NODE_VIP], [], replace(RAMP, rates=(5000,), seconds=6.0))
    assert said == "60000 questions are more than the 50000 that one node may be asked in a run"


def test_a_connection_table_that_would_fill_up_is_left_alone(node: Snapshot) -> None:
    table = node["conntrack"]["value"]
    assert table is not None
    assert planned_for(node, [NODE_VIP], [])
    table["count"], table["maximum"] = 7000, 32768
    assert ramp.plan(node, [NODE_VIP], [], RAMP) == (
        "9660 questions are as many flows, and conntrack has 7000 of 32768: more than 50% would be in use"
    )


def test_addresses_of_no_node_are_strangers() -> None:
    fleet = {**kube_fleet.fleet(), "gone": None}
    assert ramp.strangers(["8.8.8.8", NODE_VIP], fleet) == ["8.8.8.8"]
    assert ramp.strangers(None, fleet) == []
