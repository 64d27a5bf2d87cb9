"""What a guard asks each minute, from its node and from a DNS pod on it, worked out once when it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from facts.snapshot import Snapshot
from models import node, upstreams
from models.kube_services import PROGRAMS, runs_dns
from models.path import VERSION, Names, Question
from models.resolvers import Fleet, Place
from models.upstreams import Upstream
from probes.probe import Probe, Protocol, probe

#: What is asked: the node's dnsmasq, from the node or from a DNS pod; the cluster's DNS service; dnsmasq's upstreams.
Stage = Literal["vip", "pod", "service", "upstream"]

#: Questions for each of them: one that is lost now and then is seen, and the node has little to do.
TRIES = 3
#: Upstreams that are asked, at most: a guard is no load test.
MOST_UPSTREAMS = 8
#: What runs beside them, and what a kubelet's probes and people start there for a moment: a second run must find the
#: same names.
_NEVER = frozenset(
    "pause tini dumb-init sh ash bash dash busybox sleep timeout cat true curl wget nc dig drill nslookup host".split()
)

_PROTOCOLS: tuple[Protocol, ...] = ("udp", "tcp")
_FOUND_OUT = ("NOERROR", "NXDOMAIN")


@dataclass(frozen=True)
class Asked:
    """One question over one protocol; from the network of a DNS pod where `stage` is "pod", else from the node."""

    stage: Stage
    probe: Probe


def questions(
    read: Snapshot, vips: Sequence[str], services: Sequence[str], names: Names, deadline_s: float
) -> list[Asked]:
    """What the guard of this node asks; empty where nothing on it has to do with DNS.

    + vips: the node's own addresses on which dnsmasq serves DNS
    + services: addresses of the cluster's DNS services; none are asked on a node without kube-proxy

    A name is never asked at dnsmasq: its cache would hide a dead upstream for as long as the name lives.
    """
    asked: list[tuple[Stage, str, int, Question]] = []
    asked += [(stage, vip, 53, VERSION) for vip in vips for stage in ("vip", "pod")]
    if read["kube_proxy"]["value"] is not None:
        asked += [("service", service, 53, Question(names.service, rcodes=_FOUND_OUT)) for service in services]
    asked += [("upstream", one.address, one.port, _about(one.domain, names)) for one in _upstreams(read, vips)]
    return [
        Asked(
            stage,
            probe(
                address,
                question.name,
                question.rdtype,
                rdclass=question.rdclass,
                protocol=protocol,
                port=port,
                tries=TRIES,
                deadline_s=deadline_s,
                rcodes=question.rcodes,
            ),
        )
        for stage, address, port, question in asked
        for protocol in _PROTOCOLS
    ]


def in_cluster(services: Sequence[str], service_name: str, name: str, deadline_s: float) -> list[Asked]:
    """What a pod asks at the cluster's DNS services: a name of the cluster, and one that needs an upstream."""
    return [
        Asked(
            "service",
            probe(service, about, protocol=protocol, tries=TRIES, deadline_s=deadline_s, rcodes=_FOUND_OUT),
        )
        for service in services
        for about in (service_name, name)
        for protocol in _PROTOCOLS
    ]


def programs(
    fleet: Mapping[str, Snapshot | None], vips: Mapping[str, Sequence[str]], services: Sequence[str]
) -> list[str]:
    """The names of processes in Kubernetes' pods that answer DNS, and ask a node's dnsmasq: CoreDNS first.

    A container that only has a VIP in its resolv.conf, as docker's take the node's, is no DNS pod: what it loses, or
    does not, says nothing of the cluster. Of a pod with CoreDNS in it no other name is needed.
    """
    served = {vip for own in vips.values() for vip in own}
    among = Fleet(fleet, vips, services, {})
    found: set[str] = set()
    for name, read in among.read.items():
        for pod in node.kubernetes_pods(read):
            if not served & set(pod["nameservers"]) or runs_dns(pod):
                continue
            if any(among.is_endpoint(Place(name, address)) for address in pod["addresses"]):
                found |= {each for each in pod["processes"] if _plain(each)}
    return [*PROGRAMS, *sorted(found - _NEVER)]


def _plain(name: str) -> bool:
    return name.isascii() and all(letter.isalnum() or letter in "-_." for letter in name)


def _upstreams(read: Snapshot, vips: Sequence[str]) -> Iterator[Upstream]:
    """Each server once, the ones for every domain first."""
    instances = [instance for vip in vips if (instance := node.serving(read, vip))]
    found = [one for instance in instances for one in upstreams.of_dnsmasq(instance, read)]
    seen: set[tuple[str, int]] = set()
    for one in sorted(found, key=lambda each: bool(each.domain)):
        if (one.address, one.port) not in seen and len(seen) < MOST_UPSTREAMS and one.address not in vips:
            seen.add((one.address, one.port))
            yield one


def _about(domain: str, names: Names) -> Question:
    if not domain:
        return Question(names.default, rcodes=_FOUND_OUT)
    named = names.domains.get(domain)
    return Question(named, rcodes=_FOUND_OUT) if named else Question(domain, "SOA", rcodes=_FOUND_OUT)
