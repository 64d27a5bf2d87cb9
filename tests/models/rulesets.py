"""Condensed rules as a node sends them."""

from __future__ import annotations

from facts.netfilter import Backend, Family, Ruleset
from facts.netfilter_table import Table, read_rule
from facts.reading import State

LINK = '[1:60] -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'


def table(name: str, *owned: str, hashed: int = 0, kube: int = 0, jump: str = "") -> Table:
    return {
        "name": name,
        "policies": {"PREROUTING": "ACCEPT"},
        "owned": list(owned),
        "hashed": {"SVC": hashed} if hashed else {},
        "rules": {"kube": kube, "docker": 3},
        "chains": {"docker": 1},
        "chain_names": {"docker": ["DOCKER"]},
        "links": [read_rule(LINK)] if kube else [],
        "foreign_jumps": [read_rule(jump)] if jump else [],
        "dns": [],
        "duplicates": [],
        "foreign_digest": "0" * 64,
        "cut": {},
    }


def ruleset(backend: Backend, family: Family, *tables: Table, state: State | None = None, **other: object) -> Ruleset:
    made: Ruleset = {
        "backend": backend,
        "family": family,
        "state": state or ("value" if tables else "empty"),
        "detail": "",
        "registered": [],
        "incompatible": [],
        "tables": list(tables),
    }
    made.update(other)  # type: ignore[typeddict-item]
    return made


MIXED = [
    ruleset(
        "nft",
        4,
        table("mangle", "KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"),
        table("nat", "KUBE-SERVICES", hashed=2, kube=7),
    ),
    ruleset("legacy", 4, table("nat", "KUBE-SERVICES", "KUBE-PROXY-CANARY", kube=3), table("raw")),
    ruleset("nft", 6, table("mangle", "KUBE-KUBELET-CANARY")),
    ruleset("legacy", 6),
]
