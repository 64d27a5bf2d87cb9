"""Who answers DNS in a fleet, and who is met at an address: systemd-resolved, dnsmasq, a resolver's pod, a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from facts.addresses import ip_address, of_endpoint
from facts.dnsmasq import Instance
from facts.pods import Pod
from facts.snapshot import Snapshot
from models import corefile, kube_services, node, upstreams
from models.upstreams import Upstream


@dataclass(frozen=True)
class Place:
    """Where a program runs: a node, or the pod with this address on it."""

    node: str
    pod: str = ""

    @property
    def source(self) -> str:
        """`host`, or `pod 172.26.2.145`."""
        return f"pod {self.pod}" if self.pod else "host"

    def __str__(self) -> str:
        return f"{self.node}/{self.source}" if self.pod else self.node


@dataclass(frozen=True)
class Stub:
    """systemd-resolved of a node."""

    place: Place

    def __str__(self) -> str:
        return f"systemd-resolved ({self.place})"


@dataclass(frozen=True)
class Dnsmasq:
    """A dnsmasq of a node; `pid` is 0 where it does not run."""

    place: Place
    pid: int

    def __str__(self) -> str:
        return f"dnsmasq ({self.place})"


@dataclass(frozen=True)
class Endpoint:
    """A pod that answers DNS; `cluster`: behind the cluster's DNS service."""

    place: Place
    cluster: bool

    def __str__(self) -> str:
        return f"{'CoreDNS' if self.cluster else 'resolver'} ({self.place})"


Resolver = Stub | Dnsmasq | Endpoint


@dataclass(frozen=True)
class Service:
    """An address that kube-proxy, or what replaces it, hands on to one of several pods."""

    address: str


class Fleet:
    """The nodes that could be read.

    + vips: per node the addresses that its dnsmasq serves; services: addresses of the cluster's DNS services
    + endpoints: what the EndpointSlices say
    """

    def __init__(
        self,
        fleet: Mapping[str, Snapshot | None],
        vips: Mapping[str, Sequence[str]],
        services: Sequence[str],
        endpoints: kube_services.Endpoints,
    ) -> None:
        self.read = {name: snapshot for name, snapshot in fleet.items() if snapshot is not None}
        self.vips = vips
        self.services = list(services)
        self._slices = endpoints
        self._met_behind: dict[tuple[str, str], list[Resolver]] = {}

    def pod(self, place: Place) -> Pod | None:
        """What was read of a pod."""
        return self._pods.get((place.node, place.pod))

    def is_endpoint(self, place: Place) -> bool:
        """Whether a pod answers DNS: it is behind a DNS service, or somebody's resolv.conf names it."""
        return place.pod in self._endpoints

    @cached_property
    def resolvers(self) -> tuple[Resolver, ...]:
        """Every resolver: of each node systemd-resolved and the dnsmasqs with an address to serve, and the pods."""
        return tuple(self._resolvers())

    def resolvers_of(self, name: str) -> list[Resolver]:
        """Those on one node."""
        return self._resolvers_by_node.get(name, [])

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The domains that any resolver has upstreams for, "" for all others first."""
        named = {one.domain for each in self.resolvers for one in self.named(each) if one.address}
        return tuple(dict.fromkeys(["", *sorted(named)]))

    @cached_property
    def programs(self) -> set[str]:
        """Addresses of the pods that run CoreDNS."""
        return {address for (_, address), pod in self._pods.items() if kube_services.runs_dns(pod)}

    @cached_property
    def _programs(self) -> list[str]:
        return kube_services.programs(self.read.values())

    @cached_property
    def _resolvers_by_node(self) -> dict[str, list[Resolver]]:
        found: dict[str, list[Resolver]] = {}
        for resolver in self.resolvers:
            found.setdefault(resolver.place.node, []).append(resolver)
        return found

    def _resolvers(self) -> Iterator[Resolver]:
        for name, snapshot in self.read.items():
            resolved = snapshot["resolved"]["value"]
            if resolved and resolved["running"]:
                yield Stub(Place(name))
            owners = [node.serving(snapshot, vip) for vip in self.vips.get(name, ())]
            for pid in dict.fromkeys(owner["pid"] for owner in owners if owner):
                yield Dnsmasq(Place(name), pid)
        for name, address in self._pods:
            if address in self._endpoints:
                yield self._endpoint(Place(name, address))

    def at(self, source: Place, address: str, port: int = 53) -> Resolver | Service | None:
        """Who is met at an address by a packet of `source`, as far as that is known."""
        if address in self.services:
            return Service(address)
        if ip_address(address).is_loopback:
            # In a pod it is the pod itself: CoreDNS listens on every address that it has.
            return self._listener(source.node, address, port) if not source.pod else self._pod_at(source, source.pod)
        holders = self._holders.get(address, [])
        for name in [source.node, *holders] if source.node in holders else holders:
            if found := self._listener(name, address, port):
                return found
        return self._pod_at(source, address)

    def met(self, source: Place, address: str, port: int) -> list[Resolver]:
        """The resolvers that may answer `source` there: behind a service's address each of its endpoints."""
        there = self.at(source, address, port)
        if not isinstance(there, Service):
            return [there] if there else []
        key = (source.node, address)
        if key not in self._met_behind:
            ends = [of_endpoint(end) for end in self.endpoints(*key)]
            met = [self.at(source, *end) for end in ends]
            self._met_behind[key] = [one for one in met if one and not isinstance(one, Service)]
        return self._met_behind[key]

    def owner(self, source: Place, address: str) -> str:
        """The node, or node and pod, that has an address as `source` sees it; "" for nobody of the fleet."""
        if address in self.services:
            return ""
        if ip_address(address).is_loopback:
            return str(source)
        holders = self._holders.get(address, [])
        if holders:
            return source.node if source.node in holders else holders[0]
        return str(self._place_of[address]) if address in self._place_of else ""

    def endpoints(self, name: str, service: str) -> dict[str, str]:
        """Where a node's queries for a DNS service go ("10.244.0.11:53"), and what says so."""
        snapshot = self.read[name]
        if service in self._slices:
            found = dict.fromkeys(sorted(self._slices[service]), f"EndpointSlice of {service}")
        else:
            found = dict.fromkeys(self._targets(name, service), f"behind {service} by kube-proxy's rules")
        ipvs = kube_services.known(snapshot) and kube_services.mode(snapshot) == "ipvs"
        for protocol in kube_services.PROTOCOLS if ipvs else ():
            for server in kube_services.servers(snapshot, service, protocol) or []:
                if server["weight"]:
                    found.setdefault(kube_services.end(server), f"real server of {service} in this node's IPVS")
        if not found:
            found = dict.fromkeys(self._programs, "a pod that runs CoreDNS")
        return {end: because for end, because in found.items() if of_endpoint(end)[1]}

    def upstreams(self, resolver: Resolver) -> list[Upstream]:
        """What a resolver asks: dnsmasq ignores a server at an address of its own (check_servers, src/network.c)."""
        asked = self.named(resolver)
        if not isinstance(resolver, Dnsmasq):
            return asked
        return [one for one in asked if self.at(resolver.place, one.address, one.port) != resolver]

    def named(self, resolver: Resolver) -> list[Upstream]:
        """What a resolver's configuration names, itself included."""
        if isinstance(resolver, Endpoint):
            pod = self.pod(resolver.place)
            return corefile.of_pod(pod, self.read[resolver.place.node]) if pod else []
        snapshot = self.read[resolver.place.node]
        if isinstance(resolver, Stub):
            return upstreams.of_resolved(snapshot)
        instances = snapshot["dnsmasq"]["value"]["instances"]
        instance = next((one for one in instances if one["on_host"] and one["pid"] == resolver.pid), None)
        # Where the files could not be read, what it asks is not known: it need not be what resolv.conf names.
        return upstreams.of_dnsmasq(instance, snapshot) if instance and not instance["error"] else []

    def _targets(self, name: str, service: str) -> list[str]:
        if not kube_services.known(self.read[name]):
            return []
        found = {
            end
            for protocol in kube_services.PROTOCOLS
            for end in kube_services.targets(name, self.read, {}, service, protocol)
        }
        return sorted(found)

    def _listener(self, name: str, address: str, port: int) -> Resolver | None:
        """The resolver of a node that has this address, by its sockets."""
        snapshot = self.read[name]
        for there in ((address,), ("0.0.0.0", "::", "*")):
            for socket in snapshot["sockets"]["value"]:
                if socket["port"] == port and socket["address"] in there:
                    if socket["process"].startswith("systemd-resolve"):
                        return Stub(Place(name))
                    pids = {owner["pid"] for owner in socket["owners"] or []}
                    if found := _instance(snapshot, pids):
                        return Dnsmasq(Place(name), found["pid"])
        serving = node.serving(snapshot, address) if address in self.vips.get(name, ()) else None
        return Dnsmasq(Place(name), serving["pid"]) if serving else None

    def _pod_at(self, source: Place, address: str) -> Endpoint | None:
        place = Place(source.node, address)
        if place not in self._places:
            place = self._place_of.get(address, place)
        return self._endpoint(place) if place in self._places and address in self._endpoints else None

    def _endpoint(self, place: Place) -> Endpoint:
        return Endpoint(place, place.pod in self._behind)

    @cached_property
    def _pods(self) -> dict[tuple[str, str], Pod]:
        return {
            (name, address): pod
            for name, snapshot in self.read.items()
            for pod in snapshot["pods"]["value"]
            for address in pod["addresses"]
        }

    @cached_property
    def _places(self) -> set[Place]:
        return {Place(name, address) for name, address in self._pods}

    @cached_property
    def _place_of(self) -> dict[str, Place]:
        """The pods by address alone, the first node's where several have it."""
        return {address: Place(name, address) for name, address in reversed(self._pods)}

    @cached_property
    def _holders(self) -> dict[str, list[str]]:
        """Address to the nodes that have it; a service's address on kube-ipvs0, say, is nobody's."""
        found: dict[str, list[str]] = {}
        for name, snapshot in self.read.items():
            for interface in snapshot["interfaces"]["value"]:
                for address in interface["addresses"]:
                    if interface["name"] not in node.DEVICES and address["scope"] != "host":
                        found.setdefault(address["address"], []).append(name)
        return found

    @cached_property
    def _behind(self) -> set[str]:
        """Addresses of the pods behind the DNS services."""
        ends = {end for service in self.services for name in self.read for end in self.endpoints(name, service)}
        return {of_endpoint(end)[0] for end in ends}

    @cached_property
    def _endpoints(self) -> set[str]:
        named = {address for pod in self._pods.values() for address in pod["nameservers"]}
        for snapshot in self.read.values():
            resolved = snapshot["resolved"]["value"]
            named |= set(resolved["uplinks"] if resolved else [])
        return self._behind | self.programs | (named & {address for _, address in self._pods})


def _instance(snapshot: Snapshot, pids: set[int]) -> Instance | None:
    instances = snapshot["dnsmasq"]["value"]["instances"]
    return next((one for one in instances if one["on_host"] and one["pid"] in pids), None)
