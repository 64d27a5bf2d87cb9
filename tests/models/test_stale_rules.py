"""What counts as stale, and what stops it, from condensed rules as the node sends them."""

from __future__ import annotations

import pytest

from facts.reading import State
from models.refused import Refused
from models.stale_rules import command, has_services, kubelet_backends, left_alone, other, saved, stale
from tests.models.rulesets import MIXED, ruleset, table

JUMP = "[0:0] -A DOCKER-USER -j KUBE-MARK-MASQ"


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


def test_without_a_tool_iptables_is_left_alone_unless_it_has_to_change() -> None:
    none = [ruleset("nft", 4), ruleset("nft", 6), ruleset("legacy", 6)]
    tables = ruleset("legacy", 4, state="tool missing", registered=["filter", "nat"])
    said = left_alone([*none, tables], "legacy", switches=False)
    assert said == (
        "iptables is left alone: there is no iptables-legacy-save, and what legacy holds here is not known"
        " (tables: filter for IPv4, nat for IPv4)"
    )
    with pytest.raises(
        Refused, match=r"^there is no iptables-legacy-save.*: install the tool first, or .*_backend = None"
    ):
        left_alone([*none, tables], "legacy", switches=True)
    assert "(tables" not in left_alone([ruleset("nft", 4, state="tool missing")], "nft", switches=False)
    # Here `stale` tells, or refuses.
    assert left_alone([*none, tables], "nft", switches=True) == ""
    assert left_alone(MIXED, "legacy", switches=True) == ""
    failed = ruleset("legacy", 6, state="failed")
    assert left_alone([tables, failed], "legacy", switches=False) == ""


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
