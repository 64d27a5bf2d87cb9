"""What is asked from a node, to find a fault and to prove its repair alike."""

from __future__ import annotations

from collections.abc import Sequence

from facts.snapshot import Snapshot
from models import node
from probes.probe import HOST, Probe, pod, probe

_PROTOCOLS = ("udp", "tcp")


def own_name(probe: Probe) -> bool:
    """True for dnsmasq's own version.bind, which needs no upstream."""
    return probe["rdclass"] == "CH"


def dns_questions(
    snapshot: Snapshot, vips: Sequence[str], name: str, *, tries: int, deadline_s: float, pods: int
) -> list[Probe]:
    """Questions to the node's own DNS addresses, over UDP and TCP, from its pods and from the node itself.

    + vips: the addresses on which this node serves DNS
    + name: a name that needs the upstreams. version.bind (class CH) comes before it: dnsmasq answers that by itself,
      which tells whether it takes the question at all
    + pods: at most so many; one for each way into the host comes first
    """
    sources = [pod(asker.name, asker.pid, address=asker.address) for asker in _chosen(snapshot, pods)] + [HOST]
    return [
        probe(
            vip,
            asked_name,
            rdtype,
            rdclass=rdclass,
            source=source,
            protocol="tcp" if protocol == "tcp" else "udp",
            tries=tries,
            deadline_s=deadline_s,
        )
        for vip in vips
        for source in sources
        for asked_name, rdtype, rdclass in (("version.bind", "TXT", "CH"), (name, "A", "IN"))
        for protocol in _PROTOCOLS
    ]


def icmp_questions(snapshot: Snapshot, vips: Sequence[str], *, pods: int) -> list[Probe]:
    """A few echo requests from the same pods: the network may be fine where DNS is not."""
    return [
        probe(vip, source=pod(asker.name, asker.pid, address=asker.address), protocol="icmp", tries=3, deadline_s=1.0)
        for vip in vips
        for asker in _chosen(snapshot, pods)
    ]


def _chosen(snapshot: Snapshot, most: int) -> list[node.Asker]:
    turn: dict[str, int] = {}
    ranked: list[tuple[int, node.Asker]] = []
    for asker in node.askers(snapshot):
        if asker.kubernetes:
            turn[asker.arrival] = turn.get(asker.arrival, 0) + 1
            ranked.append((turn[asker.arrival], asker))
    return [asker for _, asker in sorted(ranked, key=lambda pair: pair[0])[:most]]
