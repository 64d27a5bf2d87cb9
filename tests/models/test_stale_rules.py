"""What counts as stale, and what stops it, from condensed rules as the node sends them."""

from __future__ import annotations

import pytest

from facts.netfilter import Backend, Family, Ruleset
from facts.netfilter_table import Table, read_rule
from facts.reading import State
from models.interface_policy import Refused
from models.stale_rules import command, has_services, kubelet_backends, other, saved, stale

LINK = '[1:60] -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
JUMP = "[0:0] -A DOCKER-USER -j KUBE-MARK-MASQ"


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


def test_it_is_named_table_by_table() -> None:
    assert [str(each) for each in stale(MIXED, "nft")] == [
        "iptables-nft mangle: 2 chains, 0 rules",
        "iptables-nft nat: 3 chains, 7 rules",
        "ip6tables-nft mangle: 1 chains, 0 rules",
    ]
    assert [str(each) for each in stale(MIXED, "legacy")] == ["iptables-legacy nat: 2 chains, 3 rules"]


def test_hints_alone() -> None:
    assert [
        (each.command, each.table, each.chains, each.rules) for each in stale(MIXED, "legacy", hints_only=True)
    ] == [("iptables-legacy", "nat", 1, 0)]
    assert [each.chains for each in stale(MIXED, "nft", hints_only=True)] == [2, 1]


def test_nothing_is_stale_where_there_is_nothing() -> None:
    clean = [ruleset("nft", 4, table("nat")), ruleset("legacy", 4), ruleset("nft", 6), ruleset("legacy", 6)]
    assert stale(clean, "nft") == [] == stale(clean, "legacy")


def test_a_foreign_jump_stops_it_and_is_named_verbatim() -> None:
    rules = [ruleset("legacy", 6, table("nat", "KUBE-MARK-MASQ", jump=JUMP))]
    with pytest.raises(
        Refused, match=r"^ip6tables-legacy: .* leads into KUBE-MARK-MASQ.*nat: -A DOCKER-USER -j KUBE-MARK-MASQ$"
    ):
        stale(rules, "legacy")
    assert stale(rules, "nft") == []
    assert stale(rules, "legacy", hints_only=True) == []


@pytest.mark.parametrize("state", ["failed", "not permitted", "tool missing", "timed out"])
def test_what_is_not_known_is_not_nothing(state: State) -> None:
    with pytest.raises(Refused, match=state):
        stale([ruleset("nft", 4, state=state)], "nft")
    assert stale([ruleset("nft", 4, state=state)], "legacy") == []


def test_a_table_that_iptables_cannot_read_stops_it() -> None:
    with pytest.raises(Refused, match="the table filter holds rules that iptables cannot read"):
        stale([ruleset("nft", 4, table("nat"), incompatible=["filter"])], "nft")


def test_whose_backend_it_is() -> None:
    assert has_services(MIXED, "nft") and has_services(MIXED, "legacy")
    assert not has_services(MIXED[2:], "nft")
    assert kubelet_backends(MIXED) == ["nft"]
    assert kubelet_backends(MIXED[1:2]) == []
    assert saved(MIXED) == ["iptables-nft", "iptables-legacy", "ip6tables-nft"]
    assert [other("nft"), other("legacy")] == ["legacy", "nft"]
    assert command("legacy", 6) == "ip6tables-legacy"
