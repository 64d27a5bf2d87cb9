"""Which resolvers of a fleet are meant to know a stub domain: one that somebody has upstreams of its own for.

Another one need not: its usual upstreams may refuse. systemd-resolved keeps .local to itself, for mDNS, unless it has a
search or routing domain for it (dns_scope_good_domain in src/resolve/resolved-dns-scope.c).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from models import upstreams
from models.resolvers import Fleet, Resolver, Stub


@dataclass(frozen=True)
class Meant:
    """Domains by resolver.

    + told: those that it has upstreams for, and those that it is asked for by one that has
    + reached: those that one is told of whom it asks for them, or who is asked further on
    """

    told: Mapping[Resolver, set[str]]
    reached: Mapping[Resolver, set[str]]

    def known(self, resolvers: Iterable[Resolver]) -> set[str]:
        """What any of these resolvers is meant to know."""
        return {domain for one in resolvers for domain in (*self.told.get(one, ()), *self.reached.get(one, ()))}


def meant(fleet: Fleet, domains: Collection[str]) -> Meant:
    """Who is meant to know which of these domains."""
    asks: dict[tuple[Resolver, str], list[Resolver]] = {}
    asked_by: dict[tuple[Resolver, str], list[Resolver]] = {}
    owners: list[tuple[Resolver, str]] = []
    waiting, seen = list(fleet.resolvers), set(fleet.resolvers)
    while waiting and domains:
        resolver = waiting.pop()
        upstream = fleet.upstreams(resolver)
        met = {one: fleet.met(resolver.place, one.address, one.port) for one in upstream if one.address}
        for domain in domains:
            chosen = upstreams.chosen(upstream, domain) if not _kept(fleet, resolver, domain) else []
            owners += [(resolver, domain)] if any(one.domain == domain for one in chosen) else []
            for behind in {other for one in chosen for other in met[one]}:
                asks.setdefault((resolver, domain), []).append(behind)
                asked_by.setdefault((behind, domain), []).append(resolver)
                if behind not in seen:
                    seen.add(behind)
                    waiting.append(behind)
    return Meant(_by_resolver(_all(owners, asks)), _by_resolver(_all(owners, asked_by)))


_Pair = tuple[Resolver, str]


def _all(owners: Iterable[_Pair], further: Mapping[_Pair, list[Resolver]]) -> set[_Pair]:
    """The owners, and whoever follows from them."""
    waiting = list(owners)
    found = set(waiting)
    while waiting:
        resolver, domain = waiting.pop()
        new = {(one, domain) for one in further.get((resolver, domain), ())} - found
        found |= new
        waiting += new
    return found


def _by_resolver(pairs: Iterable[_Pair]) -> dict[Resolver, set[str]]:
    found: dict[Resolver, set[str]] = {}
    for resolver, domain in pairs:
        found.setdefault(resolver, set()).add(domain)
    return found


def _kept(fleet: Fleet, resolver: Resolver, name: str) -> bool:
    """Whether a systemd-resolved hands a name on to no server."""
    if not isinstance(resolver, Stub) or not upstreams.within(name, "local"):
        return False
    resolved = fleet.read[resolver.place.node]["resolved"]["value"]
    domains = (
        [*resolved["domains"], *(one for link in resolved["links"] for one in link["domains"])] if resolved else []
    )
    return not any(upstreams.within(name, domain.removeprefix("~").strip(".").lower()) for domain in domains)
