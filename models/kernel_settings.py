"""The kernel settings that cluster DNS needs, and which of them a node lacks."""

from __future__ import annotations

from facts.snapshot import Snapshot

#: Below net.ipv4.vs; what kube-proxy sets at its start (kubernetes pkg/proxy/ipvs/proxier.go).
IPVS = {"conntrack": "1", "expire_nodest_conn": "1", "expire_quiescent_template": "1"}

CONNTRACK_MAXIMUM = "net.netfilter.nf_conntrack_max"


def ipvs(snapshot: Snapshot) -> dict[str, str]:
    """The settings of IPVS that are not as kube-proxy wants them, and what they should be: {} where all are."""
    table = snapshot["ipvs"]["value"]
    there = table["sysctls"] if table else {}
    return {f"net.ipv4.vs.{name}": value for name, value in IPVS.items() if there.get(name, value) != value}


def conntrack(snapshot: Snapshot, maximum: int | None) -> dict[str, str]:
    """A larger maximum of tracked connections; {} where the node has as much, or where none is wanted."""
    table = snapshot["conntrack"]["value"]
    if maximum is None or table is None or table["maximum"] >= maximum:
        return {}
    return {CONNTRACK_MAXIMUM: str(maximum)}
