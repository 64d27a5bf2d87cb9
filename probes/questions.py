"""What is asked from a node, to find a fault and to prove its repair alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from facts.snapshot import Snapshot
from models import node
from probes.carry import RATE
from probes.probe import HOST, Probe, Protocol, Result, Source, pod, probe

_PROTOCOLS: tuple[Protocol, ...] = ("udp", "tcp")


@dataclass(frozen=True)
class Asking:
    """How nodes are asked.

    + name: a name that needs dnsmasq's upstreams; service_name: a name of the cluster
    + tries: questions per source, address, name and protocol; deadline_s: seconds for each
    + pods: at most so many are asked from; one for each way into the host comes first
    + rate: questions per second that a node sends, and that one address gets, at most
    """

    name: str
    service_name: str
    tries: int
    deadline_s: float
    pods: int
    rate: int = RATE


def own_name(probe: Probe) -> bool:
    """True for dnsmasq's own version.bind, which needs no upstream."""
    return probe["rdclass"] == "CH"


def questions(snapshot: Snapshot, vips: Sequence[str], services: Sequence[str], how: Asking) -> list[Probe]:
    """Questions over UDP and TCP, from the node's pods and from the node itself, to its dnsmasq and to cluster DNS.

    + vips: the node's own addresses on which dnsmasq serves DNS. version.bind (class CH) comes before `how.name`:
      dnsmasq answers that by itself, which tells whether it takes the question at all
    + services: addresses of the cluster's DNS services; none are asked on a node without kube-proxy
    """
    sources = [*_pods(snapshot, vips, how.pods), HOST]
    proxy = snapshot["kube_proxy"]["value"] if "kube_proxy" in snapshot else None
    wanted = [(vip, asked) for vip in vips for asked in (("version.bind", "TXT", "CH"), (how.name, "A", "IN"))]
    wanted += [(service, (how.service_name, "A", "IN")) for service in services if proxy]
    return [
        probe(
            destination,
            name,
            rdtype,
            rdclass=rdclass,
            source=source,
            protocol=protocol,
            tries=how.tries,
            deadline_s=how.deadline_s,
        )
        for source in sources
        for destination, (name, rdtype, rdclass) in wanted
        for protocol in _PROTOCOLS
    ]


def icmp_questions(snapshot: Snapshot, vips: Sequence[str], how: Asking) -> list[Probe]:
    """A few echo requests to dnsmasq's addresses from the same pods: the network may be fine where DNS is not."""
    return [
        probe(vip, source=source, protocol="icmp", tries=3, deadline_s=1.0)
        for source in _pods(snapshot, vips, how.pods)
        for vip in vips
    ]


def ended(results: Sequence[Result], later: Snapshot | None) -> list[str]:
    """The names of those pods among who asked that are on the node no more.

    + later: the node, read after they had asked; nothing tells that a pod has ended where its pods could not be read
    """
    if later is None or later["pods"]["state"] not in ("value", "empty"):
        return []
    there = [pod("", one["pid"], address=address) for one in later["pods"]["value"] for address in one["addresses"]]
    known = {(source["netns"], source["address"]) for source in (HOST, *there)}
    sources = [result["probe"]["source"] for result in results]
    return list(dict.fromkeys(one["name"] for one in sources if (one["netns"], one["address"]) not in known))


def _pods(snapshot: Snapshot, vips: Sequence[str], most: int) -> Iterator[Source]:
    """One for each way into the host first, and of those on one way first who asks dnsmasq by itself.

    Any other one stands in for a pod that may come, and a NetworkPolicy may keep it from there (`probes.denied`).
    """
    turn: dict[str, int] = {}
    ranked: list[tuple[int, node.Asker]] = []
    own = {address for vip in vips for address in node.asking(snapshot, vip)}
    for asker in sorted(node.askers(snapshot), key=lambda asker: asker.address not in own):
        if asker.kubernetes:
            turn[asker.arrival] = turn.get(asker.arrival, 0) + 1
            ranked.append((turn[asker.arrival], asker))
    for _, asker in sorted(ranked, key=lambda pair: pair[0])[:most]:
        yield pod(asker.name, asker.pid, address=asker.address)
