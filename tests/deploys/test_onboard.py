"""New nodes of the lab: refused for what is wrong with them, brought to the policy, certified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.deploys.nodes import dnsmasq_start, served, state
from tests.operations.rules import load

pytestmark = pytest.mark.lab

LOOK = ("-y", "inventory", "deploys/onboard.py")
NEW = ("--data", 'new_nodes=["node-2"]')
ENFORCE = ("inventory", "deploys/onboard.py", "-y", "--data", "enforce=true")
RESTORE = (
    "for name in iptables ip6tables; do update-alternatives --auto $name; done; rm -f /etc/sysctl.d/90-dnsmend.conf"
)


@pytest.fixture
def new(healed: Lab) -> Iterator[Node]:
    """node-2, put back as it was."""
    node = healed.node("node-2")
    yield node
    node.run(
        [
            "sh",
            "-c",
            f"{RESTORE}; mv /usr/sbin/conntrack.away /usr/sbin/conntrack 2>/dev/null; sysctl -qw net.ipv4.ip_forward=1",
        ]
    )


def choose(node: Node, backend: str) -> None:
    for name in ("iptables", "ip6tables"):
        node.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-{backend}"])


def seen(node: Node) -> list[str]:
    """All of the node, without what a first login makes, and the program that may see itself among the processes."""
    return [line for line in state(node) if line not in ("grep", "/run/motd.dynamic")]


def test_the_wrong_backend_is_refused_brought_to_policy_and_certified(
    new: Node, healed: Lab, pyinfra: Run, tmp_path: Path
) -> None:
    choose(new, "legacy")
    healed.inject("dnsmasq-except-cilium", new.name)
    new.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    before = seen(new)
    report, junit = tmp_path / "certificate.json", tmp_path / "certificate.xml"
    done = pyinfra(*LOOK, *NEW, "--data", f"json={report}", "--data", f"junit={junit}")
    assert done.returncode == 1, done.stderr
    assert "REFUSED node-2 must not join: iptables is legacy, ip6tables is legacy; the cluster has nft" in done.stderr
    assert "net.ipv4.ip_forward is 0, and should be 1" in done.stderr
    assert seen(new) == before
    certificate = json.loads(report.read_text())
    failed = {one["check"] for one in certificate["findings"] if one["status"] == "fail"}
    assert {"ONBOARD-001", "ONBOARD-003", "ONBOARD-007", "DNSMASQ-001"} <= failed
    assert {one["node"] for one in certificate["findings"]} == {"node-2"}
    assert int(ElementTree.parse(junit).getroot().get("failures", "0")) > len(failed)

    others = [seen(healed.node(name)) for name in ("node-0", "node-1")]
    done = pyinfra(*ENFORCE, *NEW, "--data", f"json={report}")
    assert done.returncode == 0, done.stderr
    assert "CERTIFIED node-2 may join" in done.stderr
    assert json.loads(report.read_text())["verdicts"] == []
    assert "(nf_tables)" in new.run(["iptables", "-V"]).stdout
    assert new.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "1"
    # Nothing takes it back later, and nobody else was touched.
    assert "dnsmend-undo" not in new.run(["systemctl", "list-timers", "--all", "--no-legend"]).stdout
    assert [seen(healed.node(name)) for name in ("node-0", "node-1")] == others

    started = dnsmasq_start(new)
    again = pyinfra(*ENFORCE, *NEW)
    assert again.returncode == 0 and dnsmasq_start(new) == started
    assert "Starting operation: Wave 1 of 1: iptables is nft" not in again.stderr


def test_a_node_without_dns_gets_everything_back(new: Node, healed: Lab, pyinfra: Run) -> None:
    choose(new, "legacy")
    healed.inject("forward-drop-nft", new.name)
    done = pyinfra(*ENFORCE, *NEW)
    assert done.returncode == 1, done.stderr
    assert "asked again: " in done.stderr and "not proven: " in done.stderr
    assert "REFUSED node-2 must not join" in done.stderr
    assert "(legacy)" in new.run(["iptables", "-V"]).stdout


def test_what_a_file_takes_back_at_boot_is_named_before_anything_is_set(new: Node, healed: Lab, pyinfra: Run) -> None:
    new.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    new.write("/etc/sysctl.d/99-cis.conf", "# CIS 3.1.1\nnet.ipv4.ip_forward = 0\n")
    before = seen(new)
    done = pyinfra(*ENFORCE, *NEW)
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stderr.split())
    assert "cannot be brought to the policy: /etc/sysctl.d/99-cis.conf:2 sets net.ipv4.ip_forward = 0 at every" in said
    assert [line for line in seen(new) if "dnsmend" not in line] == before


def test_a_setting_of_several_words_is_enforced_once(new: Node, pyinfra: Run) -> None:
    name = "net.ipv4.ip_local_port_range"
    before = new.run(["sysctl", "-n", name]).stdout.strip()
    policy = ("--data", f'kernel_settings={{"{name}": "30000 60999"}}')
    try:
        done = pyinfra(*ENFORCE, *NEW, *policy)
        assert done.returncode == 0, done.stderr
        assert new.run(["sysctl", "-n", name]).stdout.split() == ["30000", "60999"]
        again = pyinfra(*ENFORCE, *NEW, *policy)
        assert again.returncode == 0 and "Starting operation: Wave 1 of 1: kernel settings" not in again.stderr
    finally:
        new.run(["sysctl", "-qw", f"{name}={before}"])


def test_a_backend_without_a_tool_does_not_keep_the_rest_from_being_enforced(
    new: Node, healed: Lab, pyinfra: Run
) -> None:
    healed.inject("dnsmasq-except-cilium", new.name)
    load(new, "iptables-legacy")
    new.run(["mv", "/usr/sbin/iptables-legacy-save", "/usr/sbin/ip6tables-legacy-save", "/opt/"])
    try:
        done = pyinfra(*ENFORCE, *NEW)
    finally:
        new.run(["mv", "/opt/iptables-legacy-save", "/opt/ip6tables-legacy-save", "/usr/sbin/"])
    # What is not known is no pass, but dnsmasq has been healed meanwhile.
    assert done.returncode == 1, done.stderr
    assert "node-2: iptables is left alone: there is no iptables-legacy-save" in done.stderr
    assert "REFUSED node-2 must not join: the legacy rules for IPv4: tool missing" in done.stderr
    assert all(served(new).values())


def test_what_cannot_be_enforced_is_refused(new: Node, pyinfra: Run) -> None:
    """The lab's kernel has no IPVS; conntrack is taken away."""
    new.run(["mv", "/usr/sbin/conntrack", "/usr/sbin/conntrack.away"])
    ipvs = ("--data", "kube_proxy_mode=ipvs")
    done = pyinfra(*LOOK, *NEW, *ipvs)
    assert done.returncode == 1
    assert "has no ip_vs, and kube-proxy is in ipvs mode, the policy's kube_proxy_mode" in done.stderr
    assert "not found: conntrack (apt-get install conntrack)" in done.stderr
    done = pyinfra(*ENFORCE, *NEW, *ipvs)
    assert done.returncode == 1
    assert "REFUSED node-2 must not join" in done.stderr


def test_with_a_limit_the_policy_has_to_name_the_backend(new: Node, pyinfra: Run) -> None:
    alone = pyinfra(*LOOK, "--limit", "node-2")
    assert alone.returncode == 1
    assert "what the cluster has is not known: no other node of the cluster was read" in alone.stderr
    named = pyinfra(*LOOK, "--limit", "node-2", "--data", "iptables_backend=nft")
    assert named.returncode == 0, named.stderr
    assert "not compared: node-2: no other node was read" in named.stderr


def test_a_new_node_that_cannot_be_reached(new: Node, pyinfra: Run) -> None:
    new.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    try:
        done = pyinfra(*LOOK, *NEW)
    finally:
        new.run(["systemctl", "start", "ssh.service"])
    assert done.returncode == 1
    assert "REFUSED node-2 must not join: it could not be reached" in done.stderr


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((), "which of these 3 nodes are new?"),
        (('new_nodes=["node-7"]',), "the inventory has no node-7"),
        (('new_nodes=["node-2"]', "enforce=yes"), "enforce='yes': must be true or false"),
        (('new_nodes=["node-2"]', "kernel_settings=1"), "must be a value for each name of a kernel setting"),
    ],
)
def test_bad_questions(healed: Lab, pyinfra: Run, data: tuple[str, ...], words: str) -> None:
    done = pyinfra(*LOOK, *(word for each in data for word in ("--data", each)))
    assert done.returncode == 1 and words in done.stderr
