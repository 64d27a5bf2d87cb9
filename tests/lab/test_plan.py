"""The addresses of the lab, for as many nodes as it can have; and that a recorded process is never mistaken."""

from __future__ import annotations

import os

import pytest

from lab.plan import BARE_METAL, MAX_NODES, RESOLVERS, ROUTER, plan_nodes
from lab.state import Process


def test_the_incidents_addresses() -> None:
    node = plan_nodes(3)[0]
    assert (node.address, node.vip, node.cilium_host) == ("172.25.4.10", "172.25.4.1", "172.26.2.58")
    assert (node.pod("client").address, node.pod("coredns").address) == ("172.26.2.145", "172.26.2.53")
    assert [each.vip for each in plan_nodes(3)] == ["172.25.4.1", "172.25.4.2", "172.25.4.3"]


def test_no_address_and_no_link_is_given_twice() -> None:
    nodes = plan_nodes(MAX_NODES)
    addresses = [BARE_METAL, ROUTER, *(resolver.address for resolver in RESOLVERS)]
    for node in nodes:
        addresses += [node.address, node.vip, node.management, node.cilium_host, *(pod.address for pod in node.pods)]
    assert len(set(addresses)) == len(addresses)
    pods = [pod for node in nodes for pod in node.pods]
    macs = [mac for pod in pods for mac in (pod.host_mac, pod.pod_mac)]
    assert len(set(macs)) == len(macs)
    # IFNAMSIZ is 16 with the final zero.
    assert all(len(pod.interface) <= 15 for pod in pods)


@pytest.mark.parametrize("count", [2, 51])
def test_too_few_and_too_many_nodes(count: int) -> None:
    with pytest.raises(ValueError, match="3 to 50"):
        plan_nodes(count)


def test_a_pid_that_was_given_to_another_process_is_not_ours() -> None:
    own = Process.of(os.getpid())
    assert own is not None
    assert own.alive()
    assert not Process(own.pid, own.started - 1).alive()
    assert Process.of(2**22 + 1) is None
