"""What counts as right in the confusion matrix, and that every fault of the lab has its place there."""

from __future__ import annotations

from typing import Any

import pytest

from bench.confusion import Row, expected, judged, rows
from bench.expected import EXPECTED, PAIRS, TOGETHER
from checks.catalogue import CHECKS
from lab import faults

FILTER = [("dnsmasq-except-cilium", "wildcard", "node-1")]
HINT = [("stale-hint", "", "node-0")]


def diagnosis(*verdicts: tuple[str, list[str]], findings: tuple[tuple[str, str, str], ...] = ()) -> dict[str, Any]:
    return {
        "verdicts": [{"check": check, "culprits": nodes} for check, nodes in verdicts],
        "findings": [{"check": check, "node": node, "status": status} for check, node, status in findings],
    }


def test_every_fault_of_the_lab_is_expected_to_say_something() -> None:
    known = {*faults.FAULTS, *faults.CLUSTER_FAULTS}
    assert {name.split()[0] for name in EXPECTED} == known
    assert {name for pair in (*PAIRS, *TOGETHER) for name in pair} <= known
    for want in EXPECTED.values():
        assert {*want.causes, *want.findings, *want.also} - {""} <= set(CHECKS)


@pytest.mark.parametrize("kubernetes", [False, True])
def test_each_fault_is_a_row_in_each_of_its_modes(kubernetes: bool) -> None:
    found = list(rows(kubernetes, [], True))
    assert Row(kubernetes=kubernetes) in found
    assert ("(healthy, Kubernetes)" in {row.name for row in found}) == kubernetes
    assert len({row.name for row in found}) == len(found)
    single = {row.injections[0][0] for row in found if len(row.injections) == 1}
    assert single == set(faults.CLUSTER_FAULTS if kubernetes else faults.FAULTS)
    if not kubernetes:
        assert "dnsmasq-listen-any bind-interfaces" in {row.name for row in found}
    assert any(len(row.injections) == 2 for row in found)
    assert [row.name for row in rows(kubernetes, ["no such fault"], True)] == []


def test_the_right_verdict_on_the_right_node_and_no_other_one() -> None:
    assert judged(FILTER, diagnosis(("DNSMASQ-001", ["node-1"])), 1) == (True, "DNSMASQ-001 on A")
    assert judged(FILTER, diagnosis(("DNSMASQ-001", ["node-0"])), 1) == (False, "DNSMASQ-001 on another node")
    assert judged(FILTER, diagnosis(("DNSMASQ-003", ["node-1"])), 1)[0] is False
    assert judged(FILTER, diagnosis(), 1) == (False, "no verdict")
    both = diagnosis(("DNSMASQ-001", ["node-1"]), ("", []))
    assert judged(FILTER, both, 1) == (False, "DNSMASQ-001 on A, hop only on no node")
    assert judged(FILTER, {}, 1) == (False, "no diagnosis, exit code 1")
    assert judged(FILTER, diagnosis(("DNSMASQ-001", ["node-1"])), 0)[0] is False


def test_what_loses_nothing_is_a_finding_without_a_verdict() -> None:
    hint = ("IPTABLES-004", "node-0", "warn")
    assert judged(HINT, diagnosis(findings=(hint,)), 0) == (True, "no verdict")
    assert judged(HINT, diagnosis(), 0) == (False, "no finding IPTABLES-004")
    assert judged(HINT, diagnosis(("IPTABLES-004", ["node-0"]), findings=(hint,)), 1)[0] is False
    assert judged([], diagnosis(), 0) == (True, "no verdict")


def test_a_pair_needs_both() -> None:
    pair = [*FILTER, ("upstream-dead", "", "node-2")]
    one, other = ("DNSMASQ-001", ["node-1"]), ("", ["node-2"])
    assert expected("upstream-dead", "").causes == ("",)
    assert judged(pair, diagnosis(other, one), 1) == (True, "DNSMASQ-001 on A, hop only on B")
    assert judged(pair, diagnosis(one), 1)[0] is False
    # The same fault on both nodes is one incident for the diagnosis; two faults never are.
    assert judged(pair, diagnosis(("DNSMASQ-001", ["node-1", "node-2"])), 1)[0] is False
