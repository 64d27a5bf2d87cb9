"""The guards of the cluster steps, as pure functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyinfra.api.config import Config
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from facts import snapshot
from facts.cluster import CORDONED, DnsService, Node, Pod
from facts.kubectl import Kubectl
from models.refused import Refused
from operations.cluster import cordon_patch, drain_arguments, may_lose, preflight, uncordon_patch
from operations.coredns import not_ready, too_few

API = Path(__file__).resolve().parents[1] / "fixtures/kubernetes/api"


def node(name: str, schedulable: bool = True) -> Node:
    return {
        "name": name,
        "addresses": [],
        "hostnames": [],
        "schedulable": schedulable,
        "cordoned_by": "",
        "version": "17",
    }


def service(*ready: str, dead: tuple[str, ...] = ()) -> DnsService:
    ends = [(name, True) for name in ready] + [(name, False) for name in dead]
    return {
        "name": "kube-dns",
        "addresses": ["10.96.0.10"],
        "endpoints": [
            {"to": f"10.244.{number}.2:53", "node": name, "ready": well} for number, (name, well) in enumerate(ends)
        ],
    }


NODES = [node("a"), node("b"), node("c")]


def test_a_node_may_be_lost_while_another_one_answers() -> None:
    may_lose("a", NODES, [service("a", "b")])
    may_lose("c", NODES, [service("a")])
    may_lose("c", NODES, [service("a", dead=("b", "c"))])


@pytest.mark.parametrize(
    ("nodes", "services", "reason"),
    [
        (NODES, [service("a")], "a has the last healthy CoreDNS"),
        (NODES, [service("a", "a")], "a has the last healthy CoreDNS"),
        (NODES, [service("a", dead=("b",))], "a has the last healthy CoreDNS"),
        ([node("a"), node("b", False)], [service("a", "b")], "of a node that takes pods: b cordoned as well"),
        (NODES, [], "not known"),
        (NODES, [service()], "no DNS service in the API has an endpoint"),
        (NODES, [service(dead=("a", "b"))], "no node has a healthy CoreDNS"),
    ],
)
def test_the_last_healthy_coredns_stays(nodes: list[Node], services: list[DnsService], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        may_lose("a", nodes, services)


def test_who_cordoned_is_written_with_the_cordon_itself() -> None:
    *_, patch = cordon_patch("20261122T000000Z-1f3a", node("a"))
    assert json.loads(patch.removeprefix("--patch=")) == {
        "metadata": {"annotations": {CORDONED: "20261122T000000Z-1f3a"}, "resourceVersion": "17"},
        "spec": {"unschedulable": True},
    }
    *_, patch = uncordon_patch(node("a"))
    assert json.loads(patch.removeprefix("--patch="))["metadata"]["annotations"] == {CORDONED: None}


def test_a_drain_forces_nothing() -> None:
    arguments = drain_arguments("a", 60)
    assert "--timeout=60s" in arguments and "--ignore-daemonsets" in arguments
    assert not {"--force", "--disable-eviction"} & set(arguments)


def test_too_few() -> None:
    assert too_few([service("a", "b", dead=("c",))], 2) == ""
    assert too_few([service("a", dead=("c",))], 2) == "10.96.0.10 has 1 ready endpoints of 2"
    assert "no DNS service" in too_few([], 1)
    assert too_few([service()], 1)


def test_not_ready() -> None:
    pods: list[Pod] = [{"name": f"coredns-{n}", "node": "", "ready": not n, "why": "Pending"} for n in range(6)]
    assert not_ready(pods[:1]) == ""
    assert not_ready(pods[:2]) == "coredns-1 on no node: Pending"
    assert not_ready(pods).endswith("; and 2 more")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[Host]:
    """node-0 to node-2, of which nothing was read."""
    monkeypatch.setattr(snapshot, "of", lambda host: None)
    inventory = Inventory(([f"node-{number}" for number in range(3)], {}))
    return list(State(inventory, Config()).inventory)


def recorded(folder: Path, refuses: str = "nothing") -> Kubectl:
    """A kubectl that answers what was recorded, and denies one kind of request."""
    file = folder / "kubectl"
    file.write_text(
        f"""#!/bin/sh
        case "$*" in
            *can-i*{refuses}*) exit 1 ;;
            *can-i*) ;;
            *"get nodes"*) cat {API}/nodes.json ;;
            *"get services"*) cat {API}/services-v1beta1.json ;;
            *) echo "not recorded: $*" >&2; exit 1 ;;
        esac
        """
    )
    file.chmod(0o755)
    return Kubectl(str(file))


def test_nothing_stands_in_the_way_of_waves_that_leave_a_coredns(hosts: list[Host], tmp_path: Path) -> None:
    one_by_one = [[host] for host in hosts]
    assert preflight(recorded(tmp_path), "kube-system", one_by_one, drain=True, rollout=True) == []
    assert preflight(recorded(tmp_path), "kube-system", [[hosts[0], hosts[2]], [hosts[1]]]) == []


def test_a_wave_that_holds_every_healthy_coredns_is_refused_before_any_change(
    hosts: list[Host], tmp_path: Path
) -> None:
    (reason,) = preflight(recorded(tmp_path), "kube-system", [[hosts[2]], [hosts[0], hosts[1]]])
    assert reason.startswith("wave 2: node-1: node-1 has the last healthy CoreDNS of a node that takes pods: node-0")


@pytest.mark.parametrize(
    ("refuses", "reason"),
    [("nodes", "may not patch nodes"), ("pods", "may not evict pods"), ("deployments", "may not patch deployments")],
)
def test_a_right_that_is_missing_is_said_before_any_change(
    hosts: list[Host], tmp_path: Path, refuses: str, reason: str
) -> None:
    (found,) = preflight(recorded(tmp_path, refuses), "kube-system", [hosts[:1]], drain=True, rollout=True)
    assert reason in found


def test_a_host_that_is_no_node_of_the_cluster_is_refused(tmp_path: Path, hosts: list[Host]) -> None:
    stranger = list(State(Inventory((["db-1"], {})), Config()).inventory)
    (reason,) = preflight(recorded(tmp_path), "kube-system", [stranger])
    assert "no node of the cluster has the name db-1" in reason


def test_an_api_that_is_not_reached_is_one_sentence(hosts: list[Host]) -> None:
    (reason,) = preflight(Kubectl("/no/kubectl"), "kube-system", [hosts], drain=True, rollout=True)
    assert "there is no kubectl on the controller" in reason
    assert preflight(Kubectl("/no/kubectl"), "kube-system", [[]]) == []
