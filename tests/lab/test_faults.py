"""Each fault is seen to fire and to heal, on the lab's real nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import baseline
from lab.api import Lab
from lab.faults import FAULTS
from lab.host import LabError

pytestmark = pytest.mark.lab

NODE = "node-0"

# These lose a share of the questions only: tests/lab/test_losses.py.
BY_CHANCE = ("loss-", "upstream-loss-")

PAIRS = [
    (name, mode)
    for name, fault in sorted(FAULTS.items())
    for mode in fault.modes or (None,)
    if not name.startswith(BY_CHANCE)
]

# These break nothing for pods: a second dnsmasq, a tool, or a configuration that is only read at the next start.
HARMLESS = ("second-", "tool-", "dnsmasq-unparsable")
# These neither, at the node's own address: they are about what it forwards, and about what it counts.
ELSEWHERE: tuple[str, ...] = ("bridge-", "forward-drop-", "firewalld", "rules-repeated", "conntrack-race")
ELSEWHERE += ("bad-checksums", "networkd-")
ELSEWHERE += ("upstream-dead", "resolver-loop-pod")
# These are in no file.
IN_THE_KERNEL = ("forward-drop-", "firewalld", "rules-repeated", "conntrack-race", "bad-checksums", "rp-filter-")

# Rules (an empty legacy table may stay), settings, links, namespaces and transient units.
KERNEL = """
for save in iptables-legacy-save ip6tables-legacy-save; do $save | grep -e '^-A' -e ' DROP '; done
nft list ruleset; ip -br address | sort; ip netns
systemctl list-units --no-legend 'pod-*' '*wall*' 'kubelet*' '*race*' '*sums*' '*networkd*'
grep -s '' /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/bridge/bridge-nf-call-*
"""


def pods_are_served(lab: Lab) -> bool:
    node = lab.node(NODE)
    client = node.pod("client")
    return all(client.ask(node.plan.vip, tcp=tcp).good for tcp in (False, True))


def kernel(lab: Lab) -> str:
    return lab.node(NODE).run(["sh", "-c", KERNEL], check=False).stdout


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_fault_fires_and_heals(lab: Lab, name: str, mode: str | None) -> None:
    root = Path(lab.record.root)
    assert pods_are_served(lab)
    before = kernel(lab)
    try:
        seen = lab.inject(name, NODE, mode=mode)
        assert "is live" in seen
        assert kernel(lab) != before if name.startswith(IN_THE_KERNEL) else baseline.changes(NODE, root)
        assert pods_are_served(lab) == name.startswith((*HARMLESS, *ELSEWHERE))
    finally:
        lab.heal(NODE)
    assert baseline.changes(NODE, root) == []
    assert kernel(lab) == before
    assert pods_are_served(lab)
    assert lab.node(NODE).pod("client").ask(lab.node(NODE).plan.pod("coredns").address).good


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("dnsmasq-except-cilium", "bind-interfaces", "does not look at the ingress interface"),
        ("dnsmasq-local-service-host", "bind-dynamic", "does not start"),
        ("endpoint-routes", "wildcard", "does not depend on how dnsmasq binds"),
        ("no-such-fault", None, "no fault"),
    ],
)
def test_what_breaks_nothing_is_refused(lab: Lab, name: str, mode: str | None, reason: str) -> None:
    with pytest.raises(LabError, match=reason):
        lab.inject(name, NODE, mode=mode)
    assert baseline.changes(NODE, Path(lab.record.root)) == []


def test_faults_add_up(lab: Lab) -> None:
    try:
        lab.inject("second-dnsmasq-libvirt", NODE)
        lab.inject("second-dnsmasq-networkmanager", NODE)
        lab.inject("dnsmasq-except-cilium", NODE)
        lab.inject("dnsmasq-unparsable", NODE)
        assert lab.record.faults[NODE][-1] == "dnsmasq-unparsable"
        processes = lab.node(NODE).run(["pgrep", "--count", "dnsmasq"]).stdout
        assert int(processes) == 3
    finally:
        lab.heal(NODE)
    assert int(lab.node(NODE).run(["pgrep", "--count", "dnsmasq"]).stdout) == 1
