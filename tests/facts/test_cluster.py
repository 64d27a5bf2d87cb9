"""What is made of the API's answers: recorded from a kube-apiserver 1.20, and in the shape of newer ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facts import cluster
from facts.cluster import Node
from facts.kubectl import KubectlError

API = Path(__file__).resolve().parents[1] / "fixtures/kubernetes/api"


def answer(name: str) -> Any:
    return json.loads((API / f"{name}.json").read_text())


def test_endpoint_slices_v1beta1() -> None:
    services = cluster.read_services(answer("services-v1beta1"))
    assert cluster.ready(services) == {"10.32.0.10": {"172.26.2.53:53", "172.26.3.53:53"}}
    assert cluster.serving(services) == {"node-0", "node-1"}


def test_endpoint_slices_v1_of_two_families() -> None:
    """Not ready is left out, not known is ready, the port is the pod's, and other services are nobody's business."""
    services = cluster.read_services(answer("services-v1"))
    assert cluster.ready(services) == {
        "10.96.0.10": {"10.244.0.11:5353", "10.244.0.13:5353"},
        "fd00:10:96::a": {"[fd00:10:244::b]:5353"},
    }
    assert cluster.serving(services) == {"node-a", "node-c"}
    assert [service["name"] for service in services] == ["kube-dns", "headless-dns"]


def test_a_service_without_endpoints_is_known_to_have_none() -> None:
    said = answer("services-v1")
    said["items"] = [each for each in said["items"] if each["kind"] == "Service"]
    assert cluster.ready(cluster.read_services(said)) == {"10.96.0.10": set(), "fd00:10:96::a": set()}


@pytest.mark.parametrize(
    "said",
    [{}, {"items": None}, [], {"items": [{"kind": "Service"}]}, {"items": [{"kind": "Service", "spec": []}]}],
    ids=str,
)
def test_what_is_not_understood_is_not_empty(said: Any) -> None:
    with pytest.raises(KubectlError, match="not understood"):
        cluster.read_services(said)


def test_nodes() -> None:
    said = answer("nodes")
    said["items"][1]["spec"]["unschedulable"] = True
    said["items"][2]["spec"]["unschedulable"] = True
    said["items"][2]["metadata"]["annotations"] = {cluster.CORDONED: "20261122T000000Z-1f3a"}
    found = cluster.read_nodes(said)
    assert [(each["name"], each["schedulable"], each["cordoned_by"]) for each in found] == [
        ("node-0", True, ""),
        ("node-1", False, ""),
        ("node-2", False, "20261122T000000Z-1f3a"),
    ]
    assert found[0]["addresses"] == ["172.25.4.10"] and found[0]["hostnames"] == ["node-0"]


NOT_READY = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}


def test_pods() -> None:
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    said = {
        "items": [
            {
                "metadata": {"name": "coredns-1"},
                "spec": {"nodeName": "node-0"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
            {
                "metadata": {"name": "coredns-2"},
                "spec": {},
                "status": {
                    "phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
                },
            },
            {
                "metadata": {"name": "coredns-3"},
                "spec": {"nodeName": "node-1"},
                "status": {
                    "conditions": [{"type": "Ready", "status": "False"}],
                    "containerStatuses": [{"state": pulling}],
                },
            },
            {
                "metadata": {"name": "coredns-4", "deletionTimestamp": "2026-11-22T03:00:00Z"},
                "spec": {"nodeName": "node-1"},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
            {"metadata": {"name": "coredns-5"}, "spec": {}, "status": {"phase": "Pending"}},
        ]
    }
    assert [(pod["node"], pod["ready"], pod["why"]) for pod in cluster.read_pods(said)] == [
        ("node-0", True, ""),
        ("", False, "Unschedulable"),
        ("node-1", False, "ImagePullBackOff: Back-off pulling image"),
        ("node-1", False, "is being deleted"),
        ("", False, "Pending"),
    ]


def named(name: str, *addresses: str, hostname: str = "") -> Node:
    return {
        "name": name,
        "addresses": list(addresses),
        "hostnames": [hostname] if hostname else [],
        "schedulable": True,
        "cordoned_by": "",
        "version": "1",
    }


NODES = [named("ip-10-0-0-5", "10.0.0.5"), named("b", "10.0.0.6", hostname="b.example.com"), named("c", "10.0.0.6")]


def test_a_host_is_the_node_of_its_name_or_hostname_or_address() -> None:
    assert cluster.node_of(NODES, "b", [])["name"] == "b"
    assert cluster.node_of(NODES, "b.example.com", ["10.0.0.6", "fd00::1"])["name"] == "b"
    assert cluster.node_of(NODES, "worker-1", ["127.0.0.1", "10.0.0.5"])["name"] == "ip-10-0-0-5"


@pytest.mark.parametrize(
    ("name", "addresses", "reason"),
    [
        ("worker-9", ["10.0.0.9"], "no node of the cluster has the name worker-9 or its addresses"),
        ("worker-9", [], "no node of the cluster"),
        ("worker-9", ["10.0.0.6"], "several of the cluster's nodes fit: b, c"),
        ("b", ["192.0.2.1"], "kubectl speaks to another cluster"),
    ],
)
def test_no_node_is_guessed(name: str, addresses: list[str], reason: str) -> None:
    with pytest.raises(KubectlError, match=reason):
        cluster.node_of(NODES, name, addresses)
