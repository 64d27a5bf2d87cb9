"""Flows that cannot be forgotten are no reason to fail after a change: it is refused before one, or only said."""

from __future__ import annotations

from typing import Any

import pytest

from deploys import rollout
from deploys.rollout import NodeChange
from facts.conntrack import NO_TOOL, DnsFlows
from facts.snapshot import Snapshot
from tests.checks.kube_fleet import VIP, fleet, incident, reading
from tests.conftest import ROOT
from tests.deploys.wanted import policy

#: What a node says whose kernel tells its flows, and which has no conntrack(8).
READ_ONLY = {"state": "value", "value": DnsFlows().read([f"ipv4 udp {VIP} 10.244.9.99 6 6 29"]), "detail": NO_TOOL}
MISSING = {"state": "tool missing", "value": [], "detail": "conntrack not found, and the kernel has no file for it"}


def needed(node: Snapshot) -> tuple[NodeChange | None, list[str]]:
    """What node-0 of a healthy fleet needs, and who refuses."""
    nodes: dict[str, Any] = fleet() | {"node-0": node}
    wanted = dict.fromkeys(nodes, policy(iptables_backend="legacy"))
    changes, refusals = rollout.needed(wanted, nodes, {}, 0)
    return changes.get("node-0"), refusals


def test_a_flush_that_is_all_that_mends_is_refused_before_any_change() -> None:
    node = fleet()["node-0"]
    node["dns_flows"] = READ_ONLY  # type: ignore[typeddict-item]
    change, (refusal,) = needed(node)
    assert change is None
    assert refusal.startswith("node-0: CONNTRACK-002: 6 UDP flows to ") and NO_TOOL in refusal
    assert "(Debian: conntrack, RHEL: conntrack-tools)" in refusal


def test_a_snapshot_that_does_not_tell_is_no_refusal() -> None:
    """That of an earlier version: it is found out when the flows are forgotten."""
    node = fleet()["node-0"]
    node["dns_flows"] = reading(READ_ONLY["value"])
    change, refusals = needed(node)
    assert refusals == [] and change and change.asked.flush and change.backend is None


@pytest.mark.parametrize("flows", [READ_ONLY, MISSING, {"state": "timed out", "value": [], "detail": "20 s"}])
def test_a_stale_backend_is_mended_all_the_same(flows: Any) -> None:
    node = fleet()["node-0"]
    incident(node)
    node["dns_flows"] = flows
    change, refusals = needed(node)
    assert refusals == [] and change and change.backend and change.backend.cleans


def test_after_a_change_of_rules_a_flush_only_warns() -> None:
    assert "required=change.backend is None" in (ROOT / "deploys/fix_dns.py").read_text()
