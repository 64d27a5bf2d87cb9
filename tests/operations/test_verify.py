"""What speaks against a proof."""

from __future__ import annotations

from typing import Literal

import pytest

from operations.verify import judge
from probes.probe import HOST, Outcome, Result, Source, Try, pod, probe

POD = pod("pod 172.26.2.145", 7)


def result(source: Source, protocol: Literal["udp", "tcp"], own: bool, *outcomes: Outcome) -> Result:
    asked = probe("172.25.4.1", "version.bind" if own else "example.com", rdclass="CH" if own else "IN", source=source)
    asked["protocol"] = protocol
    tries: list[Try] = [
        {"outcome": outcome, "rtt_ms": None, "rcode": None, "answers": [], "detail": ""} for outcome in outcomes
    ]
    return {"probe": asked, "carrier": "python3", "tries": tries}


def test_all_answered_is_proven() -> None:
    assert judge([result(POD, "udp", True, "answered", "answered"), result(POD, "tcp", False, "answered")]) == ([], [])


@pytest.mark.parametrize("outcome", ["timeout", "closed", "refused", "unreachable", "bad answer", "not sent"])
def test_one_try_that_is_not_answered_speaks_against_it(outcome: Outcome) -> None:
    """Unknown is never pass: what could not be sent proves nothing."""
    problems, remarks = judge([result(POD, "udp", True, "answered", outcome)])
    assert len(problems) == 1 and outcome in problems[0]
    assert remarks == []


def test_what_the_node_itself_loses_is_its_upstreams_fault() -> None:
    results = [
        result(POD, "udp", True, "answered"),
        result(POD, "udp", False, "timeout"),
        result(POD, "tcp", False, "answered"),
        result(HOST, "udp", False, "timeout"),
    ]
    problems, remarks = judge(results)
    assert problems == []
    assert len(remarks) == 2 and "its upstream does not answer" in remarks[0]


def test_another_protocol_is_no_excuse() -> None:
    own = result(POD, "udp", True, "answered")
    problems, _ = judge([own, result(POD, "tcp", False, "timeout"), result(HOST, "udp", False, "timeout")])
    assert len(problems) == 1 and "TCP example.com" in problems[0]


def test_the_upstream_is_no_excuse_for_dnsmasqs_own_name() -> None:
    results = [result(POD, "udp", True, "timeout"), result(HOST, "udp", False, "timeout")]
    problems, _ = judge(results)
    assert len(problems) == 1 and "version.bind" in problems[0]


def test_a_cluster_service_has_no_upstream_to_blame() -> None:
    results = [result(POD, "udp", False, "timeout"), result(HOST, "udp", False, "timeout")]
    problems, remarks = judge(results)
    assert len(problems) == 2 and remarks == []
