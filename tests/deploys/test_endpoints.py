"""What the checks are told of the EndpointSlices, and what they are told when nobody could ask."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from deploys import endpoints
from deploys import policy as policies
from deploys.policy import PolicyError
from facts.kubectl import Kubectl

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "tests/fixtures/kubernetes/api"


def hosts(**data: object) -> list[Host]:
    """Two nodes with the project's policy, but for `data`; nobody connects to them."""
    policy = {key: value for key, value in runpy.run_path(str(ROOT / "group_data/all.py")).items() if key[:2] != "__"}
    state = State(Inventory((["node-0", "node-1"], policy | data)), Config())
    for host in state.inventory:
        state.activate_host(host)
    return list(state.inventory)


def answering(folder: Path, script: str) -> str:
    """A kubectl that runs this, and counts its calls in the file `calls` beside it."""
    file = folder / "kubectl"
    file.write_text(f"#!/bin/sh\necho >>{folder}/calls\n{script}\n")
    file.chmod(0o755)
    return str(file)


def test_endpoints_are_asked_for_once(tmp_path: Path) -> None:
    nodes = hosts(kubectl=answering(tmp_path, f"cat {API}/services-v1beta1.json"))
    for _ in range(2):
        assert endpoints.of(nodes[0].state) == ({"10.32.0.10": {"172.26.2.53:53", "172.26.3.53:53"}}, "")
    assert (tmp_path / "calls").read_text() == "\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'Unable to connect to the server: EOF' >&2; exit 1",
            "the API server is not reached from the controller",
        ),
        ("echo 'Error from server (Forbidden): x' >&2; exit 1", "the API server does not allow it"),
        ("echo '{}'", "not understood"),
        ("echo '{\"items\": []}'", "no service in kube-system listens on port 53"),
    ],
)
def test_what_could_not_be_seen_is_said(tmp_path: Path, script: str, reason: str) -> None:
    seen = endpoints.of(hosts(kubectl=answering(tmp_path, script))[0].state)
    assert seen.endpoints == {}
    assert seen.unseen.startswith("EndpointSlices were not compared: ") and reason in seen.unseen


def test_without_kubectl_that_is_said() -> None:
    seen = endpoints.of(hosts()[0].state)
    assert seen == ({}, "no kubectl (group_data/all.py: kubectl): EndpointSlices were not compared")


def test_the_policy_chooses_the_way() -> None:
    nodes = hosts(kubectl="kubectl", kubectl_node="node-1")
    way = policies.cluster(nodes[0])
    assert way == Kubectl("kubectl", None, nodes[1])
    assert way and way.argv(["get"])[1] == "--kubeconfig=/etc/kubernetes/admin.conf"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"cluster_cordon": True}, "cluster_cordon = True: that needs kubectl"),
        ({"coredns_rollout": True}, "that needs kubectl"),
        ({"dns_endpoints": 2}, "that needs kubectl"),
        ({"kubectl": "kubectl", "kubectl_node": "node-9"}, "the inventory has no such node"),
        ({"kubectl": "--as=root"}, "must be None or a name or a path without spaces"),
        ({"dns_namespace": "--all"}, "must be a name or a path"),
        ({"cluster_drain": "yes"}, "must be True or False"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(data: dict[str, object], reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        policies.of(hosts(**data)[0])
