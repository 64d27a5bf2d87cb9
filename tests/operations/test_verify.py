"""What speaks against a proof."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from facts import snapshot
from models import node
from operations import runs, verify
from operations.verify import judge
from operations.wave import Wave
from probes.probe import HOST, Outcome, Probe, Result, Source, Try, pod, probe
from probes.questions import Asking

POD = pod("pod 172.26.2.145", 7)


def result(source: Source, protocol: Literal["udp", "tcp"], own: bool, *outcomes: Outcome) -> Result:
    asked = probe("172.25.4.1", "version.bind" if own else "example.com", rdclass="CH" if own else "IN", source=source)
    asked["protocol"] = protocol
    tries: list[Try] = [
        {"outcome": outcome, "rtt_ms": None, "rcode": None, "answers": [], "detail": ""} for outcome in outcomes
    ]
    return {"probe": asked, "carrier": "python3", "tries": tries}


def test_all_answered_is_proven() -> None:
    answered = [result(POD, "udp", True, "answered", "answered"), result(POD, "tcp", False, "answered")]
    assert judge(answered, {}) == ([], [])


@pytest.mark.parametrize("outcome", ["timeout", "closed", "refused", "unreachable", "bad answer", "not sent"])
def test_one_try_that_is_not_answered_speaks_against_it(outcome: Outcome) -> None:
    """Unknown is never pass: what could not be sent proves nothing."""
    problems, remarks = judge([result(POD, "udp", True, "answered", outcome)], {})
    assert len(problems) == 1 and outcome in problems[0]
    assert remarks == []


def test_what_the_node_itself_loses_is_its_upstreams_fault() -> None:
    results = [
        result(POD, "udp", True, "answered"),
        result(POD, "udp", False, "timeout"),
        result(POD, "tcp", False, "answered"),
        result(HOST, "udp", False, "timeout"),
    ]
    problems, remarks = judge(results, {})
    assert problems == []
    assert len(remarks) == 2 and "its upstream does not answer" in remarks[0]


def test_another_protocol_is_no_excuse() -> None:
    own = result(POD, "udp", True, "answered")
    problems, _ = judge([own, result(POD, "tcp", False, "timeout"), result(HOST, "udp", False, "timeout")], {})
    assert len(problems) == 1 and "TCP example.com" in problems[0]


def test_the_upstream_is_no_excuse_for_dnsmasqs_own_name() -> None:
    results = [result(POD, "udp", True, "timeout"), result(HOST, "udp", False, "timeout")]
    problems, _ = judge(results, {})
    assert len(problems) == 1 and "version.bind" in problems[0]


ASKS = {"172.25.4.1": {"172.26.2.53"}}
COREDNS = pod("pod 172.26.2.53", 8, address="172.26.2.53")
STAND_IN = pod("pod 172.26.2.145", 7, address="172.26.2.145")


def all_lost(source: Source) -> list[Result]:
    return [result(source, protocol, own, "timeout") for protocol in ("udp", "tcp") for own in (True, False)]


def test_a_pod_that_a_network_policy_keeps_out_is_no_reason_to_take_a_repair_back() -> None:
    fine = [result(COREDNS, "udp", True, "answered"), result(COREDNS, "tcp", True, "answered")]
    problems, remarks = judge([*fine, *all_lost(STAND_IN)], ASKS)
    assert problems == []
    assert len(remarks) == 4 and "NetworkPolicy" in remarks[0]
    # One that asks there by itself, one that gets something, and one that is alone: each speaks against the proof.
    answered = [result(STAND_IN, "udp", True, "answered"), result(STAND_IN, "tcp", True, "answered")]
    assert len(judge([*answered, *all_lost(COREDNS)], ASKS)[0]) == 4
    assert len(judge([*fine, *all_lost(STAND_IN)[1:], answered[0]], ASKS)[0]) == 3
    assert len(judge(all_lost(STAND_IN), ASKS)[0]) == 4
    assert len(judge([*fine, result(COREDNS, "udp", True, "timeout"), *all_lost(STAND_IN)], ASKS)[0]) == 5


def test_a_cluster_service_has_no_upstream_to_blame() -> None:
    results = [result(POD, "udp", False, "timeout"), result(HOST, "udp", False, "timeout")]
    problems, remarks = judge(results, {})
    assert len(problems) == 2 and remarks == []


def proven(monkeypatch: pytest.MonkeyPatch, asking: list[Probe], results: list[Result], changed: bool = True) -> Wave:
    """The wave of node-0 after its proof, with these questions and what came back."""
    inventory = SimpleNamespace(get_host=lambda name: None)
    host = SimpleNamespace(
        name="node-0",
        state=SimpleNamespace(is_executing=True, inventory=inventory, config=SimpleNamespace(PARALLEL=200)),
        log=print,
        noop=print,
        get_fact=lambda fact, **arguments: list(results),
    )
    monkeypatch.setattr(verify, "host", host)
    monkeypatch.setattr(snapshot, "forget", lambda host: None)
    monkeypatch.setattr(snapshot, "fleet", lambda hosts: {"node-0": {}})
    monkeypatch.setattr(node, "vips", lambda fleet, vips: {"node-0": vips})
    monkeypatch.setattr(node, "asking", lambda read, address: set())
    monkeypatch.setattr(verify, "questions", lambda *arguments: asking)
    monkeypatch.setattr(verify, "_not_listening", lambda read, served: [])
    monkeypatch.setattr(runs, "record", lambda *arguments, **more: None)
    monkeypatch.setattr(runs, "confirm", lambda run: iter(["confirmed"]))
    wave = Wave(1, 1, ("node-0",))
    change: Any = SimpleNamespace(did_change=lambda: changed)
    how = Asking("example.com", "kubernetes.default", 1, 2.0, 1)
    commands = list(verify.dns_answers._inner(wave, [change], how, ["172.25.4.1"]))
    assert ("confirmed" in commands) == (changed and not wave.failures)
    return wave


def test_what_is_answered_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = result(POD, "udp", True, "answered")
    assert proven(monkeypatch, [answered["probe"]], [answered]).failures == {}


@pytest.mark.parametrize("changed", [True, False])
def test_an_exec_that_failed_proves_nothing(monkeypatch: pytest.MonkeyPatch, changed: bool) -> None:
    asking = [result(POD, "udp", True, "answered")["probe"]] * 3
    wave = proven(monkeypatch, asking, [], changed)
    assert wave.failures == {"node-0": "not proven: the node could not be asked: 0 of 3 questions came back"}


def test_a_change_after_which_there_is_nothing_to_ask_is_not_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing to ask" in proven(monkeypatch, [], []).failures["node-0"]
    assert proven(monkeypatch, [], [], changed=False).failures == {}
