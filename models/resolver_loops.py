"""Resolvers that ask each other in a circle, found from their configuration alone.

A question that nobody in the circle can answer goes round until somebody gives it up: it is lost, or comes back after
seconds, and costs every one of them a share of what it can do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from ipaddress import ip_address

from models import node, upstreams
from models.resolvers import Dnsmasq, Endpoint, Fleet, Place, Resolver, Service
from models.upstreams import Upstream

#: systemd-resolved's stubs (systemd-resolved.service(8)): in a pod's resolv.conf they are a copy of a node's.
STUBS = ("127.0.0.53", "127.0.0.54")


@dataclass(frozen=True)
class Loop:
    """
    One circle.

    + domain: what is asked for when it goes round, "" for whatever no upstream is named for
    + chain: the resolvers in the order in which they ask each other, the last one the first
    + because: for each of them the line that names the next one
    + harmless: dnsmasq ignores a server that is an address of its own, and has another one for the domain
    """

    domain: str
    chain: tuple[Resolver, ...]
    because: tuple[str, ...]
    harmless: bool = False

    def __str__(self) -> str:
        names = [str(resolver) for resolver in self.chain]
        return " -> ".join([*names, names[0]])


def loops(fleet: Fleet, name: str) -> list[Loop]:
    """The circles that a node takes part in, each for the first domain that goes round in it; the default one first.

    Of those that lead back to one resolver, the shortest: many roads may, and one that is cut tells of the next.
    """
    found: dict[frozenset[Resolver], Loop] = {}
    for domain in fleet.domains:
        for resolver in fleet.resolvers_of(name):
            if loop := _through(fleet, domain, resolver):
                found.setdefault(frozenset(loop.chain), loop)
    return list(found.values())


def stubs_in_pods(fleet: Fleet, name: str) -> dict[Place, str]:
    """A node's pods whose resolv.conf names systemd-resolved's stub, though no resolver's pod: nobody answers there."""
    found: dict[Place, str] = {}
    for asker in node.askers(fleet.read[name]):
        place = Place(name, asker.address)
        pod = fleet.pod(place)
        if pod and asker.kubernetes and not fleet.is_endpoint(place):
            stubs = [address for address in pod["nameservers"] if address in STUBS]
            found |= {place: stubs[0]} if stubs else {}
    return found


def _through(fleet: Fleet, domain: str, resolver: Resolver) -> Loop | None:
    """The shortest circle in which what a resolver asks leads back to it."""
    reached: dict[Resolver, list[tuple[Resolver, str]]] = {resolver: []}
    waiting = deque([resolver])
    while waiting:
        here = waiting.popleft()
        for one in _asked(fleet, here, domain):
            for following in _met(fleet, here, one):
                way = [*reached[here], (here, one.because)]
                if following == resolver:
                    return _loop(fleet, domain, way)
                if following not in reached:
                    reached[following] = way
                    waiting.append(following)
    return None


def _loop(fleet: Fleet, domain: str, way: list[tuple[Resolver, str]]) -> Loop:
    alone = len(way) == 1 and isinstance(way[0][0], Dnsmasq)
    others = bool(upstreams.chosen(fleet.upstreams(way[0][0]), domain))
    # A circle has no beginning: the same one must be the same wherever it was found.
    first = min(range(len(way)), key=lambda number: str(way[number][0]))
    turned = way[first:] + way[:first]
    return Loop(domain, tuple(each for each, _ in turned), tuple(because for _, because in turned), alone and others)


def _asked(fleet: Fleet, resolver: Resolver, domain: str) -> list[Upstream]:
    asked = upstreams.chosen(fleet.named(resolver), domain)
    if not isinstance(resolver, Dnsmasq):
        return asked
    # 127.0.0.1 in a resolv.conf that dnsmasq reads is what it expects to find there, and ignores.
    own = [one for one in asked if fleet.at(resolver.place, one.address, one.port) == resolver]
    return [one for one in asked if one not in own or one.because.startswith(("server=", "local="))]


def _met(fleet: Fleet, resolver: Resolver, asked: Upstream) -> list[Resolver]:
    there = fleet.at(resolver.place, asked.address, asked.port)
    if there is None:
        return [resolver] if _is_own_loopback(resolver, asked.address) else []
    found = fleet.met(resolver.place, asked.address, asked.port)
    return [one for one in found if isinstance(one, Endpoint)] if isinstance(there, Service) else found


def _is_own_loopback(resolver: Resolver, address: str) -> bool:
    return isinstance(resolver, Endpoint) and ip_address(address).is_loopback
