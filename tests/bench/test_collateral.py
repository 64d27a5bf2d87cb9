"""The meter of `make collateral`: it counts what is lost, says when it cannot tell, and what it measures."""

from __future__ import annotations

import pytest

from bench import collateral
from bench.collateral import Disturbed, Step, measured, stale
from bench.collateral_page import Figures, Sample, figures, page, table
from lab.api import Lab

WHERE = {
    "date": "2026-11-22",
    "machine": "2 cores",
    "rates": "50 questions",
    "repeated": "0",
    "flow": "50 messages a second",
}


def stream(lost: set[int]) -> list[Sample]:
    """100 questions, one each 20 ms, answered after 1 ms."""
    return [(number * 0.02, None if number in lost else 1.0) for number in range(100)]


def run(lost: int) -> Figures:
    found = figures({"udp": stream(set(range(50, 50 + lost))), "tcp": stream(set())}, 0.5, 1.5)
    return {"node": found, "pod": found, "LAN": found, "flows": found}


def test_what_was_sent_meanwhile_is_counted() -> None:
    found = figures({"udp": stream({10, 50, 51, 52, 90})}, 0.5, 1.5)["udp"]
    assert (found["sent"], found["lost"], found["silence_ms"]) == (51, 3, 80)
    assert figures({"udp": stream(set())}, 0.5, 1.5)["udp"] == {"sent": 51, "lost": 0, "silence_ms": 20}
    assert figures({"udp": []}, 0, 1)["udp"] == {"sent": 0, "lost": 0, "silence_ms": 0}


def test_the_table_has_the_spread_and_who_is_left_out() -> None:
    served = [{name: found for name, found in run(lost).items() if name != "pod"} for lost in (2, 5, 3)]
    lines = table({"one": [run(0), run(0)], "two": served}).splitlines()
    assert lines[2] == "| one | 2 | 0 / 0 | 0 / 0 | 0 / 0 | 0 / 0 | 20 ms |"
    assert lines[3] == "| two | 3 | 2 to 5 / 0 | - | 2 to 5 / 0 | 2 to 5 / 0 | 120 ms |"
    assert "\n".join(lines) in page({"one": [run(0), run(0)], "two": served}, WHERE)


def test_the_stale_rules_are_a_table() -> None:
    lines = stale(300).splitlines()
    assert (lines[0], lines[-1]) == ("*nat", "COMMIT")
    chains = {line.split()[0][1:] for line in lines if line.startswith(":")}
    assert len(chains) == 301 and all(len(chain) == 25 for chain in chains - {"KUBE-SERVICES"})
    assert {line.split()[-1] for line in lines if line.startswith("-A")} == chains


@pytest.mark.lab
def test_a_restart_is_seen(healed: Lab) -> None:
    """dnsmasq is away for a second: everybody's questions are lost then, and no packet that only passes through."""
    away = Step("away", ["exec", "--", "systemctl stop dnsmasq; sleep 1; systemctl start dnsmasq"])
    seen = measured(healed, away)
    for who in ("node", "pod", "LAN"):
        assert 25 <= seen[who]["udp"]["lost"] < 200 and seen[who]["udp"]["silence_ms"] >= 1000, seen
        assert seen[who]["tcp"]["lost"], seen
    assert [each["lost"] for each in seen["flows"].values()] == [0, 0]


@pytest.mark.lab
def test_what_was_lost_before_is_no_ones_collateral(healed: Lab) -> None:
    healed.inject("dnsmasq-except-cilium", collateral.NODE)
    with pytest.raises(Disturbed, match="pod lost something before or after"):
        measured(healed, Step("nothing", ["exec", "--", "true"]))
    with pytest.raises(RuntimeError, match="has changed nothing"):
        measured(healed, Step("undo", ["deploys/undo.py"], askers=("node",)))
