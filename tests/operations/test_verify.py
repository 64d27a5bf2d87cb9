"""What speaks against a proof."""

from __future__ import annotations

from collections.abc import Sequence
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


def test_a_pod_that_may_not_ask_the_cluster_is_no_reason_either() -> None:
    def service(source: Source, outcome: Outcome) -> list[Result]:
        found = [result(source, protocol, False, outcome, outcome) for protocol in ("udp", "tcp")]
        for one in found:
            one["probe"]["destination"] = "10.32.0.10"
        return found

    lost, other = service(STAND_IN, "timeout"), pod("pod 172.26.2.146", 9, address="172.26.2.146")
    problems, remarks = judge([*service(other, "answered"), *lost], ASKS)
    assert problems == [] and len(remarks) == 2 and "NetworkPolicy" in remarks[0]
    # Beside one that is not answered everything it is a loss, and so it is beside the node alone.
    assert len(judge([*service(other, "answered")[1:], *service(other, "timeout")[:1], *lost], ASKS)[0]) == 3
    assert len(judge([*service(HOST, "answered"), *lost], ASKS)[0]) == 2


def test_a_cluster_service_has_no_upstream_to_blame() -> None:
    results = [result(POD, "udp", False, "timeout"), result(HOST, "udp", False, "timeout")]
    problems, remarks = judge(results, {})
    assert len(problems) == 2 and remarks == []


def pods(*addresses: str, state: str = "value") -> Any:
    """A node with these pods, as far as a proof looks at it."""
    read = [{"pid": int(address.split(".")[-1]), "addresses": [address]} for address in addresses]
    return {"pods": {"state": state, "value": read, "detail": ""}}


def proven(
    monkeypatch: pytest.MonkeyPatch,
    asking: list[Probe],
    results: list[Result],
    changed: bool = True,
    later: Any = None,
    then: Sequence[Result] = (),
    read: Any = None,
) -> Wave:
    """The wave of node-0 after its proof, with these questions and what came back.

    + read, later: the node as it is read before and after that; then: what its pods of then are asked, and answer
    """
    read, said = read or pods("172.26.2.145"), {str(one["probe"]): one for one in (*results, *then)}
    inventory = SimpleNamespace(get_host=lambda name: None)
    host = SimpleNamespace(
        name="node-0",
        state=SimpleNamespace(is_executing=True, inventory=inventory, config=SimpleNamespace(PARALLEL=200)),
        log=print,
        noop=print,
        get_fact=lambda fact, probes, rate: [said[str(one)] for one in probes] if results else [],
    )
    monkeypatch.setattr(verify, "host", host)
    monkeypatch.setattr(snapshot, "forget", lambda host: None)
    monkeypatch.setattr(snapshot, "fleet", lambda hosts: {"node-0": read})
    monkeypatch.setattr(snapshot, "of", lambda host: later)
    monkeypatch.setattr(node, "vips", lambda fleet, vips: {"node-0": vips})
    monkeypatch.setattr(node, "asking", lambda read, address: set())
    of_then = [one["probe"] for one in then]
    monkeypatch.setattr(verify, "questions", lambda of, *arguments: of_then if of is later else asking)
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


def both(ending: Outcome, source: Source, detail: str = "") -> list[Result]:
    """What became of two tries over UDP and two over TCP."""
    found = [result(source, protocol, True, ending, ending) for protocol in ("udp", "tcp")]
    for one in found:
        for attempt in one["tries"]:
            attempt["detail"] = detail
    return found


def only_udp(source: Source) -> list[Result]:
    """What a pod that no NetworkPolicy keeps out is answered over UDP alone."""
    return [both("answered", source)[0], both("timeout", source)[1]]


def from_pod(address: str) -> Source:
    return pod(f"pod {address}", int(address.split(".")[-1]), address=address)


ENDED, STAYS, NEW = from_pod("172.26.2.9"), from_pod("172.26.2.53"), from_pod("172.26.2.77")
GONE = "nsenter: cannot open /proc/9/ns/net: No such file or directory"


def asked_once(monkeypatch: pytest.MonkeyPatch, first: list[Result], later: Any, then: list[Result]) -> Wave:
    return proven(monkeypatch, [one["probe"] for one in first], first, later=later, then=then)


@pytest.mark.parametrize("ending", ["not sent", "timeout", "unreachable"])
def test_a_pod_that_has_ended_is_left_out_and_another_one_asked(
    monkeypatch: pytest.MonkeyPatch, ending: Outcome
) -> None:
    """It may be gone before it is asked, or while it asks."""
    first = [*both(ending, ENDED, GONE), *both("answered", STAYS)]
    if ending != "not sent":
        first[0]["tries"][0]["outcome"] = "answered"
    later = pods("172.26.2.53", "172.26.2.77")
    answered = [*both("answered", STAYS), *both("answered", NEW)]
    assert asked_once(monkeypatch, first, later, answered).failures == {}
    lost = [*both("answered", STAYS), *only_udp(NEW)]
    assert "172.26.2.77" in asked_once(monkeypatch, first, later, lost).failures["node-0"]
    # That it has ended must be seen: as long as it is there, or nobody knows, it speaks against the proof.
    for unseen in (pods("172.26.2.9", "172.26.2.53"), pods(state="timed out"), None):
        assert GONE in asked_once(monkeypatch, both("not sent", ENDED, GONE), unseen, []).failures["node-0"]


def test_who_loses_and_is_still_there_is_not_exchanged_for_who_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [*both("not sent", ENDED, GONE), *only_udp(STAYS)]
    wave = asked_once(monkeypatch, first, pods("172.26.2.53", "172.26.2.77"), both("answered", NEW))
    assert "172.26.2.53" in wave.failures["node-0"] and "172.26.2.9" not in wave.failures["node-0"]


def test_pods_that_cannot_be_asked_at_all_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [*both("not sent", ENDED, GONE), *both("answered", HOST)]
    there = [*both("not sent", NEW, "nsenter: no room"), *both("answered", HOST)]
    wave = asked_once(monkeypatch, first, pods("172.26.2.77"), there)
    assert "172.26.2.77" in wave.failures["node-0"] and "nsenter: no room" in wave.failures["node-0"]


def test_a_node_whose_pods_could_not_be_read_is_not_proven_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    first = both("answered", HOST)
    asking, unread = [one["probe"] for one in first], pods(state="timed out")
    assert "could not be read" in proven(monkeypatch, asking, first, read=unread).failures["node-0"]
    assert proven(monkeypatch, asking, first, changed=False, read=unread).failures == {}
    assert proven(monkeypatch, asking, first, read=pods(state="empty")).failures == {}
