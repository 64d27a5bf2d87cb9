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

PAIRS = [(name, mode) for name, fault in sorted(FAULTS.items()) for mode in fault.modes or (None,)]

# These break nothing for pods: a second dnsmasq, a tool, or a configuration that is only read at the next start.
HARMLESS = ("second-", "tool-", "dnsmasq-unparsable")


def pods_are_served(lab: Lab) -> bool:
    node = lab.node(NODE)
    client = node.pod("client")
    return all(client.ask(node.plan.vip, tcp=tcp).good for tcp in (False, True))


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_fault_fires_and_heals(lab: Lab, name: str, mode: str | None) -> None:
    root = Path(lab.record.root)
    assert pods_are_served(lab)
    try:
        seen = lab.inject(name, NODE, mode=mode)
        assert "is live" in seen
        assert baseline.changes(NODE, root)
        assert pods_are_served(lab) == name.startswith(HARMLESS)
    finally:
        lab.heal(NODE)
    assert baseline.changes(NODE, root) == []
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
