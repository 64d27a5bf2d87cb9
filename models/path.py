"""The way of a DNS query through a cluster, worked out from what was read on its nodes: nothing of it is typed in.

A pod asks what its resolv.conf names: the DNS service's address, behind which kube-proxy has the CoreDNS pods, or
another resolver. A CoreDNS pod asks its upstreams, as a rule those of its own resolv.conf (dnsPolicy Default): the
node's dnsmasq. The node itself asks systemd-resolved's stub, which asks dnsmasq as well. dnsmasq asks one upstream or
another, by domain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from facts.addresses import endpoint, of_endpoint, usable
from facts.snapshot import Snapshot
from models import kube_services, node, stub_domains, upstreams
from models.resolvers import Dnsmasq, Endpoint, Fleet, Place, Resolver, Service, Stub

# The parts of a query's way, in its order.
Stage = Literal[
    "pod to service",  # a pod -> the address of the cluster's DNS service, or whatever its resolv.conf names
    "pod to endpoint",  # a pod -> each CoreDNS pod behind the service, past the service's address
    "endpoint to upstream",  # a CoreDNS pod -> each of its upstreams: dnsmasq's address, or another resolver
    "host to service",  # the node itself -> the service's address
    "host to stub",  # the node itself -> systemd-resolved's stub
    "host to dnsmasq",  # the node itself -> dnsmasq's address, or what else its resolv.conf or its stub asks
    "dnsmasq to upstream",  # the node that runs dnsmasq -> each of dnsmasq's upstreams, per domain
]

#: By a question's name, the ids of the steps that it goes on to.
Needs = Mapping[str, tuple[str, ...]]

#: Domains with upstreams of their own that are asked for, the default one included.
MOST_DOMAINS = 6
#: Endpoints of a service that a node asks one by one.
MOST_ENDPOINTS = 12
#: Upstreams of one resolver for one name: dnsmasq takes any number, libc asks the first three.
MOST_UPSTREAMS = 12
#: Name servers of a resolv.conf that libc asks (MAXNS in resolv.h).
_LIBC = 3


@dataclass(frozen=True)
class Names:
    """What is asked for.

    + default: a name that no upstream of its own is named for; service: a name that the cluster's DNS answers itself
    + domains: names to ask for by domain, where it is not the domain's own SOA record
    """

    default: str
    service: str
    domains: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """One question. `rcodes` are those that are answers, none given: any, since an answer is all that is wanted."""

    name: str
    rdtype: str = "A"
    rdclass: str = "IN"
    rcodes: tuple[str, ...] = ()


#: A domain that can be asked for: a configuration may hold anything.
_NAME = re.compile(r"(?!.{250})(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", re.IGNORECASE)

#: A resolver that says SERVFAIL or REFUSED has not found out, whoever is to blame.
_FOUND_OUT = ("NOERROR", "NXDOMAIN")

#: What a server says about itself, without an upstream. One that keeps it secret refuses, which is an answer too.
VERSION = Question("version.bind", "TXT", "CH")
#: systemd-resolved answers this name itself (SYNTHETIC RECORDS in systemd-resolved.service(8)).
LOCALHOST = Question("localhost")


@dataclass(frozen=True)
class Step:
    """One step of the way, to be asked from where its packets leave.

    + id: unique, and the same in every run
    + source: the pod's address, "" for the node itself; pid: a process in the pod's network namespace, else 0
    + owner: who has the destination: "node-1/pod 172.26.3.53", "node-0", "" for nobody of the fleet
    + because: what tells that this is the way
    + questions: what to ask for
    + needs: by the name asked for, the ids of the steps that this question then goes on to; none where the destination
      answers it itself
    """

    id: str
    stage: Stage
    node: str
    source: str
    pid: int
    destination: str
    port: int
    owner: str
    because: tuple[str, ...]
    questions: tuple[Question, ...]
    needs: Needs


def steps(
    fleet: Mapping[str, Snapshot | None],
    vips: Mapping[str, Sequence[str]],
    services: Sequence[str],
    endpoints: kube_services.Endpoints,
    names: Names,
    pods: int = 3,
) -> list[Step]:
    """
    Every step, nodes in their order and pods before the node itself. A node that could not be read is no source.

    + vips: `node.vips`, the addresses that each node's dnsmasq serves; services: `kube_services.vips`
    + endpoints: what the EndpointSlices say, {} if they were not asked
    + pods: of each node, at most so many are asked from, one for each way into the host first
    """
    return _Way(Fleet(fleet, vips, services, endpoints), names).walked(pods)


class _Way:
    """Finds the steps by following each from its start. A step is known before it is followed: there may be loops."""

    def __init__(self, fleet: Fleet, names: Names) -> None:
        self.fleet = fleet
        self.names = names
        self.found: dict[str, Step] = {}
        self.questions = self._questions()
        self.meant = stub_domains.meant(fleet, self.questions.keys() - self._everywhere)
        #: The step from a node's pod to one endpoint ("10.244.0.11:53"): one pod of each node asks them one by one.
        self.to_endpoint: dict[tuple[str, str], str] = {}

    def walked(self, pods: int) -> list[Step]:
        """All of it."""
        for name in self.fleet.read:
            for client in self._clients(name, pods):
                self._from_pod(client)
        for name in self.fleet.read:
            self._from_host(name)
        for resolver in self.fleet.resolvers:
            # Even where nobody was seen to ask it.
            self._upstreams(resolver)
        return list(self.found.values())

    def _clients(self, name: str, most: int) -> list[Place]:
        turn: dict[str, int] = {}
        ranked: list[tuple[int, Place]] = []
        for asker in node.askers(self.fleet.read[name]):
            place = Place(name, asker.address)
            if asker.kubernetes and not self.fleet.is_endpoint(place):
                turn[asker.arrival] = turn.get(asker.arrival, 0) + 1
                ranked.append((turn[asker.arrival], place))
        return [place for _, place in sorted(ranked, key=lambda pair: pair[0])[:most]]

    def _from_pod(self, client: Place) -> None:
        pod = self.fleet.pod(client)
        for address in pod["nameservers"][:_LIBC] if pod else ():
            if usable(address):
                self._first("pod to service", client, address, f"nameserver {address} in its resolv.conf")

    def _from_host(self, name: str) -> None:
        here, read = Place(name), self.fleet.read[name]
        proxy = read["kube_proxy"]["value"] if kube_services.known(read) else None
        for service in self.fleet.services if proxy else ():
            self._first("host to service", here, service, f"{service} is a DNS service of the cluster")
        resolv_conf = read["resolv_conf"]["value"]
        for address in (resolv_conf["nameservers"] if resolv_conf else [])[:_LIBC]:
            if usable(address):
                stub = isinstance(self.fleet.at(here, address), Stub)
                because = f"nameserver {address} in {resolv_conf['path'] if resolv_conf else ''}"
                self._first("host to stub" if stub else "host to dnsmasq", here, address, because)
        for vip in self.fleet.vips.get(name, ()):
            self._first("host to dnsmasq", here, vip, f"dnsmasq serves {vip} on this node")

    def _first(
        self, stage: Stage, source: Place, address: str, because: str, port: int = 53, own: tuple[Question, ...] = ()
    ) -> str:
        """A step to whoever must know every name, though nobody of the fleet may be met there; `own` comes first."""
        step = self.found[self._step(stage, source, address, port, because)]
        if not step.questions:
            # Of a stranger nobody knows whether he is meant to know a stub domain.
            self.found[step.id] = replace(step, questions=(*own, *self._asked(())))
        return step.id

    def _step(self, stage: Stage, source: Place, address: str, port: int, because: str) -> str:
        """The step's id. Where nobody of the fleet is met, the step has no questions yet."""
        end = endpoint(address, port)
        # A node may ask the same address for itself and as dnsmasq: only what dnsmasq asks is part of others' ways.
        name = f"{source.node}/{'dnsmasq' if stage == 'dnsmasq to upstream' else source.source}/{end}"
        if known := self.found.get(name):
            if because not in known.because:
                self.found[name] = replace(known, because=(*known.because, because))
            return name
        pod = self.fleet.pod(source)
        owner = self.fleet.owner(source, address)
        pid = pod["pid"] if pod else 0
        step = Step(name, stage, source.node, source.pod, pid, address, port, owner, (because,), (), {})
        self.found[name] = step
        there = self.fleet.at(source, address, port)
        asked = self._asked(self.meant.known(self.fleet.met(source, address, port)))
        if isinstance(there, Service):
            needs = self._through(source, there)
            questions = [self._cluster_name(), *asked]
        elif there:
            own = self._own(there)
            needs = {own.name: (), **self._upstreams(there)}
            questions = [own, *asked]
        else:
            return name
        self.found[name] = replace(self.found[name], questions=tuple(questions), needs=needs)
        return name

    def _through(self, source: Place, service: Service) -> Needs:
        """A service answers nothing itself: each question goes on to one of its endpoints."""
        behind: list[str] = []
        for end, because in list(self.fleet.endpoints(source.node, service.address).items())[:MOST_ENDPOINTS]:
            address, port = of_endpoint(end)
            key = (source.node, end)
            if source.pod and key not in self.to_endpoint:
                self.to_endpoint[key] = self._first(
                    "pod to endpoint", source, address, because, port, (self._cluster_name(),)
                )
            elsewhere = (step for (_, other), step in self.to_endpoint.items() if other == end)
            if step := self.to_endpoint.get(key) or next(elsewhere, None):
                behind.append(step)
        return {question.name: tuple(behind) for question in (self._cluster_name(), *self.questions.values())}

    def _own(self, resolver: Resolver) -> Question:
        if isinstance(resolver, Stub):
            return LOCALHOST
        # CoreDNS without its plugin `chaos` would hand version.bind on to its upstream.
        return self._cluster_name() if isinstance(resolver, Endpoint) and resolver.cluster else VERSION

    def _cluster_name(self) -> Question:
        return Question(self.names.service, rcodes=_FOUND_OUT)

    def _upstreams(self, resolver: Resolver) -> Needs:
        """Per name the steps from a resolver to those that it asks for it."""
        needs: dict[str, tuple[str, ...]] = {}
        asked = self.fleet.upstreams(resolver)
        told = self._asked(self.meant.told.get(resolver, ()))
        for question in self._asked(self.meant.known([resolver])):
            behind: list[str] = []
            for one in upstreams.chosen(asked, question.name.rstrip(".").lower())[:MOST_UPSTREAMS]:
                stage = _STAGES[type(resolver)]
                step = self._step(stage, resolver.place, one.address, one.port, one.because)
                behind += [step] if step not in behind else []
                known = self.found[step]
                stranger = not self.fleet.at(resolver.place, one.address, one.port)
                if stranger and question in told and question not in known.questions:
                    self.found[step] = replace(known, questions=(*known.questions, question))
            needs[question.name] = tuple(behind)
        return needs

    @property
    def _everywhere(self) -> set[str]:
        return {"", *self.names.domains}

    def _asked(self, domains: Collection[str]) -> list[Question]:
        """What is asked of everybody, and what is asked for in these domains."""
        return [one for domain, one in self.questions.items() if domain in self._everywhere or domain in domains]

    def _questions(self) -> dict[str, Question]:
        """What is asked for, by domain; "" for names that no upstream is named for."""
        named = {"": Question(self.names.default, rcodes=_FOUND_OUT)}
        named |= {domain: Question(name, rcodes=_FOUND_OUT) for domain, name in self.names.domains.items()}
        # systemd-resolved's links come last: a VPN's may have dozens, of reverse zones.
        for resolver in sorted(self.fleet.resolvers, key=lambda one: isinstance(one, Stub)):
            for one in self.fleet.upstreams(resolver):
                if one.address and _NAME.fullmatch(one.domain):
                    # The domain's own record: that needs no name which somebody would have to know.
                    named.setdefault(one.domain, Question(one.domain, "SOA", rcodes=_FOUND_OUT))
        return dict(list(named.items())[:MOST_DOMAINS])


_STAGES: dict[type[Resolver], Stage] = {
    Stub: "host to dnsmasq",
    Dnsmasq: "dnsmasq to upstream",
    Endpoint: "endpoint to upstream",
}
