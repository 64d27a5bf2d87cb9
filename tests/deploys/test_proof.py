"""The proof of a repair on a node whose pods come and go meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.deploys.nodes import served

pytestmark = pytest.mark.lab

DROP_IN = "/run/systemd/system/dnsmasq.service.d/meanwhile.conf"
#: Found before the node's own, and only the questions enter a pod's network like that: what is in here happens between
#: what was read and what is asked.
NSENTER = "/usr/local/bin/nsenter"
ASKED = '#!/bin/sh\ncase "$*" in --net=*)\n{}\n;; esac\nexec /usr/bin/nsenter "$@"\n'

COMES = """[Service]
ExecStartPost=-ip link add lxc0a1b2c3d4e5f type veth peer name meanwhile
ExecStartPost=-ip link set lxc0a1b2c3d4e5f up
ExecStartPost=-ip address add 10.32.0.77/32 dev lxc0a1b2c3d4e5f
"""
IS_LATE = """[Service]
ExecStartPre=-ip address del 172.25.4.200/32 dev bond0
ExecStartPost=-ip address add 172.25.4.200/32 dev bond0
"""


@pytest.fixture
def node(healed: Lab) -> Iterator[Node]:
    """node-0, and its pods again afterwards."""
    node = healed.node("node-0")
    yield node
    node.remove(DROP_IN, NSENTER)
    node.run(["systemctl", "daemon-reload"])
    node.run(["ip", "link", "del", "lxc0a1b2c3d4e5f"], check=False)
    node.run(["ip", "address", "del", "172.25.4.200/32", "dev", "bond0"], check=False)
    for pod in node.plan.pods:
        node.run(["ip", "link", "set", pod.interface, "up"])
    node.run(["systemctl", "start", *(pod.unit for pod in node.plan.pods)])


def meanwhile(node: Node, drop_in: str) -> None:
    node.write(DROP_IN, drop_in)
    node.run(["systemctl", "daemon-reload"])


def test_a_link_that_comes_after_the_restart_is_no_reason_to_take_it_back(
    healed: Lab, node: Node, pyinfra: Run
) -> None:
    healed.inject("dnsmasq-local-service", node.name, mode="bind-interfaces")
    meanwhile(node, COMES)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 0, done.stderr
    assert "inet 10.32.0.77/32" in node.run(["ip", "address", "show", "dev", "lxc0a1b2c3d4e5f"]).stdout
    assert "10.32.0.77" not in node.run(["ss", "-Htuln"]).stdout
    assert all(served(node).values())


def test_an_address_that_was_to_be_listened_on_and_is_not_is_one(healed: Lab, node: Node, pyinfra: Run) -> None:
    healed.inject("dnsmasq-local-service", node.name, mode="bind-interfaces")
    node.run(["ip", "address", "add", "172.25.4.200/32", "dev", "bond0"])
    meanwhile(node, IS_LATE)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 1
    assert "not proven: dnsmasq does not listen on udp 172.25.4.200:53, tcp 172.25.4.200:53" in done.stderr
    assert not all(served(node).values())


def test_a_pod_that_ends_before_it_is_asked_is_no_reason_to_take_it_back(healed: Lab, node: Node, pyinfra: Run) -> None:
    """One pod is asked from, and ends; the other one, which is there, is asked instead."""
    healed.inject("dnsmasq-except-cilium", node.name)
    node.write(NSENTER, ASKED.format("systemctl stop pod-coredns"), 0o755)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y", "--data", "probe_pods=1")
    assert done.returncode == 0, done.stderr
    assert "ended meanwhile, and left out: pod 172.26.2.53" in done.stderr
    assert not node.active("pod-coredns") and node.active("pod-client")
    assert node.pod("client").ask(node.plan.vip).good


def test_a_pod_that_ends_before_it_is_asked_is_no_loss_where_nothing_was_changed(node: Node, pyinfra: Run) -> None:
    node.write(NSENTER, ASKED.format("systemctl stop pod-coredns"), 0o755)
    done = pyinfra("-y", "inventory", "deploys/verify.py", "--data", "probe_pods=1")
    assert done.returncode == 0, done.stderr
    assert "node-0: ended meanwhile, and left out: pod 172.26.2.53" in done.stderr
    assert "pod 172.26.2.145" in done.stderr
    node.write(NSENTER, ASKED.format("exit 1"), 0o755)
    assert pyinfra("-y", "inventory", "deploys/verify.py").returncode == 1


@pytest.mark.parametrize("link", ["up", "down"])
def test_a_pod_that_ends_while_a_diagnosis_asks_is_not_known_and_nobody_is_blamed(
    node: Node, pyinfra: Run, tmp_path: Path, link: str
) -> None:
    """Before it is asked; or while it is, its link first: what it has lost then cannot be asked again."""
    client, report = node.plan.pod("client"), tmp_path / "report.json"
    before = "systemctl stop pod-client"
    if link == "down":
        before = f"ip link set {client.interface} down; (sleep 1; systemctl stop pod-client) >/dev/null 2>&1 &"
    node.write(NSENTER, ASKED.format(before), 0o755)
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={report}")
    assert done.returncode == 1
    told = json.loads(report.read_text())
    assert told["verdicts"] == []
    (hop,) = (hop for hop in told["hops"] if (hop["node"], hop["source"]) == (node.name, f"pod {client.address}"))
    assert hop["state"] == "unknown"
    assert any(loss["lost"] for loss in hop["losses"]) == (link == "down")


def test_a_node_whose_pods_cannot_be_asked_is_not_proven(healed: Lab, node: Node, pyinfra: Run) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = served(node)
    node.write(NSENTER, ASKED.format("echo nsenter: no room >&2; exit 1"), 0o755)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 1
    assert "not proven: pod 172.26.2." in done.stderr and "not sent 20/20: nsenter: no room" in done.stderr
    assert served(node) == before
