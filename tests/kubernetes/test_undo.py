"""The backend incident on real kube-proxies, healed and taken back: files, alternatives and rules as they were."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from facts.kubectl import Kubectl
from lab import lifecycle
from lab.api import Lab
from lab.places import Node
from operations import lease
from tests.conftest import Run
from tests.kubernetes.test_fix_dns import AT_ONCE
from tests.operations.rules import is_owned, others, save, saves

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]

_FILES = r"""
find /etc /var/lib/dpkg/alternatives -xdev -type f -exec sha256sum {} + | sort
for name in iptables ip6tables; do update-alternatives --query $name; readlink /etc/alternatives/$name; done
sysctl -a 2>/dev/null | grep -e '^net.ipv4.vs' -e conntrack_max
"""

UNDO = ("-y", "inventory", "deploys/undo.py")


def files(node: Node) -> list[str]:
    """Files, alternatives and settings, as lines."""
    return node.run(["sh", "-c", _FILES]).stdout.splitlines()


def rules(node: Node) -> dict[str, list[str]]:
    """Everybody's rules; kube-proxy's in any order of its chains. A table that is only registered holds none."""
    found = {
        name: [line for line in lines if not re.fullmatch(r"\*\w+|COMMIT|:[A-Z]+ ACCEPT", line)]
        for name, lines in saves(node).items()
    }
    return {name: [*others(lines), *sorted(filter(is_owned, lines))] for name, lines in found.items()}


def settled(node: Node, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """The rules, once they are these or two minutes are over: kube-proxy writes when it has read the API."""
    deadline = time.monotonic() + 120
    while (found := rules(node)) != wanted and time.monotonic() < deadline:
        time.sleep(2)
    return found


@pytest.fixture
def clean(healed: Lab) -> Iterator[Lab]:
    for node in healed.nodes:
        node.run(["rm", "-rf", "/var/lib/dnsmend"])
    yield healed
    for node in healed.nodes:
        node.run(["rm", "-rf", "/var/lib/dnsmend", "/run/dnsmend"])


@pytest.mark.parametrize("fault", ["foreign-rules+mixed-backends", "node-on-nft"])
def test_undo_after_a_full_fix_brings_everything_back(clean: Lab, pyinfra: Run, fault: str) -> None:
    node = clean.node("node-0")
    for name in fault.split("+"):
        clean.inject(name, node.name)
    before = {each.name: (files(each), rules(each)) for each in clean.nodes}
    done = pyinfra(*AT_ONCE, timeout=600)
    assert done.returncode == 0, done.stderr
    assert rules(node) != before[node.name][1]

    undone = pyinfra(*UNDO, "--data", "run=last", timeout=600)
    assert undone.returncode == 0, undone.stderr
    for each in clean.nodes:
        assert files(each) == before[each.name][0]
        wanted = before[each.name][1]
        found = settled(each, wanted)
        for command, lines in wanted.items():
            assert found[command] == lines, (each.name, command)
    again = pyinfra(*UNDO, "--data", "run=last", timeout=600)
    assert again.returncode == 0
    assert "has been taken back already on every node that knows it" in again.stderr


def test_undo_after_a_foreign_change_refuses(clean: Lab, pyinfra: Run) -> None:
    node = clean.node("node-0")
    clean.inject("mixed-backends", node.name)
    done = pyinfra(*AT_ONCE, timeout=600)
    assert done.returncode == 0, done.stderr
    node.run(["iptables-nft", "-t", "nat", "-N", "KUBE-SERVICES"])
    node.run(["iptables-nft", "-t", "nat", "-A", "KUBE-SERVICES", "-j", "RETURN"])
    held = files(node), save(node, "iptables-nft")
    undone = pyinfra(*UNDO, "--data", "run=last", timeout=600)
    assert undone.returncode == 1
    assert re.search(r"rules are present again in iptables-nft, table nat: KUBE-SERVICES", undone.stderr)
    assert (files(node), save(node, "iptables-nft")) == held


def test_the_lease_on_a_real_api_server(kube_lab: Lab, pyinfra: Run) -> None:
    # A run that had the lab before has left its own, which nobody holds.
    kube_lab.kubectl(["-n", "kube-system", "delete", "lease", "dnsmend", "--ignore-not-found"])
    kubectl = Kubectl(*_program())
    try:
        assert lease.take(kubectl, "kube-system", "a", "ann@laptop, process 7", 60) == ""
        with pytest.raises(lease.Taken, match="run a of ann@laptop, process 7 holds it since"):
            lease.take(kubectl, "kube-system", "b", "bob@laptop, process 8", 60)
        assert lease.take(kubectl, "kube-system", "a", "ann@laptop, process 7", 1) == ""
        time.sleep(2)
        assert "had run out" in lease.take(kubectl, "kube-system", "b", "bob@laptop, process 8", 60)
        options = ["--data", f"kubectl={kubectl.program}", "--data", f"kubeconfig={kubectl.kubeconfig}"]
        kube_lab.inject("mixed-backends", "node-0")
        refused = pyinfra(*AT_ONCE, *options, timeout=600)
        assert refused.returncode == 1
        assert "the cluster: run b of bob@laptop, process 8 holds it since" in refused.stderr
        lease.release(kubectl, "kube-system", "b")
        done = pyinfra(*AT_ONCE, *options, timeout=600)
        assert done.returncode == 0, done.stderr
        left = json.loads(kube_lab.kubectl(["-n", "kube-system", "get", "lease", "dnsmend", "--output=json"]).stdout)
        assert not left["spec"].get("holderIdentity")
    finally:
        kube_lab.kubectl(["-n", "kube-system", "delete", "lease", "dnsmend", "--ignore-not-found"])
        kube_lab.heal()


def _program() -> tuple[str, str]:
    """kubectl of the lab and the administrator's kubeconfig, as a policy names them."""
    access = lifecycle.status()["kubernetes"]
    return str(access["kubectl"]), str(access["kubeconfig"])
