"""A pod that a NetworkPolicy keeps from DNS, beside others of its node: questions on a recorded cluster's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from checks import kept_out
from checks.case import Case
from checks.diagnosis import Hop
from checks.finding import Finding, Status
from checks.hops import hops as walked
from checks.ipvs_004 import check as real_servers
from checks.verdict import verdicts
from models import node, path
from models.path import Step
from probes.hops import Key, Walking, planned
from probes.probe import Result
from tests.checks.test_verdict import said
from tests.models import fleets
from tests.models.fleets import Fleet
from tests.models.test_path import NAMES, SERVICE, cluster

CLIENT, DATABASE = "172.26.2.145", "172.26.2.130"
THERE = f"node-0/pod {DATABASE}/{SERVICE}:53"

#: What becomes of a question: "" is an answer.
Fate = Callable[[Step, str, str], str]


def shared(first: str) -> Fleet:
    """`cluster`, with two client pods on node-0; `first` asks CoreDNS's pods as well."""
    fleet = cluster()
    fleets.add_pod(fleet["node-0"], CLIENT, DATABASE, 4711, SERVICE)
    fleet["node-0"]["pods"]["value"].sort(key=lambda pod: first not in pod["addresses"])
    return fleet


def asked(fleet: Fleet, fate: Fate) -> tuple[list[Hop], list[Result]]:
    """Every hop, and node-0's results, where each question meets its fate."""
    steps = path.steps(fleet, node.vips(fleet, None), [SERVICE], {}, NAMES)
    by_id = {step.id: step for step in steps}
    seen: dict[Key, list[Result]] = {}
    for key, probe in planned(steps, {}, Walking(NAMES, 3, 20, 2.0, 0.05)).items():
        outcome: Any = fate(by_id[key[0]], key[1], key[2]) or "answered"
        attempt: Any = {"outcome": outcome, "rtt_ms": None, "rcode": None, "answers": [], "detail": ""}
        tries = [attempt] * probe["tries"] * 3
        seen[key] = [{"probe": {**probe, "tries": len(tries)}, "carrier": "bash", "tries": tries}]
    results = [one for key, found in seen.items() if by_id[key[0]].node == "node-0" for one in found]
    return walked(steps, seen, 0.05), results


def unknown(hops: list[Hop]) -> set[str]:
    return {hop["id"] for hop in hops if hop["state"] == "unknown"}


def denied(step: Step, protocol: str, name: str) -> str:
    return "timeout" if step.source == DATABASE else ""


def refused(step: Step, protocol: str, name: str) -> str:
    return "bad answer" if step.source == DATABASE and name == NAMES.default else ""


@pytest.mark.parametrize("fate", [denied, refused])
@pytest.mark.parametrize("first", [CLIENT, DATABASE])
def test_a_pod_that_is_kept_out_is_no_incident(fate: Fate, first: str) -> None:
    fleet = shared(first)
    raw, results = asked(fleet, fate)
    assert verdicts([], raw, dict(fleet)) != []
    hops = kept_out.apart(raw, [], dict(fleet))
    behind = {hop["id"] for hop in hops if hop["stage"] == "pod to endpoint"}
    assert unknown(hops) == {THERE, *(behind if first == DATABASE else ())}
    assert {hop["state"] for hop in hops} == {"ok", "unknown"}
    assert verdicts([], hops, dict(fleet)) == []
    sentence, *more = kept_out.unseen(hops)
    assert sentence.startswith(f"node-0/pod {DATABASE}: not answered at {SERVICE}:53") and "NetworkPolicy" in sentence
    assert bool(more) == (first == DATABASE)
    # Nor does what it loses at CoreDNS's pods tell anything about these.
    case = Case("node-0", dict(fleet), ["172.25.4.1"], results)
    assert {finding["status"] for finding in real_servers(case)} == {Status.PASS}


def test_what_it_loses_explains_no_loss_of_others() -> None:
    """node-1 has no client pod: what it asks of the service goes on to where node-0's first pod has asked."""
    fleet, other = shared(DATABASE), f"node-1/host/{SERVICE}:53"
    raw, _ = asked(fleet, lambda step, *rest: denied(step, *rest) or ("timeout" if step.id == other else ""))
    (verdict,) = verdicts([], kept_out.apart(raw, [], dict(fleet)), dict(fleet))
    assert (verdict["hop"], verdict["culprits"]) == (other, ["node-1"])


def partly(step: Step, protocol: str, name: str) -> str:
    return "timeout" if step.source == DATABASE and protocol == "udp" else ""


def no_outside(step: Step, protocol: str, name: str) -> str:
    return "timeout" if step.source == DATABASE and name == NAMES.default else ""


def service_only(step: Step, protocol: str, name: str) -> str:
    return "timeout" if step.source == DATABASE and step.destination == SERVICE else ""


@pytest.mark.parametrize("fate", [partly, no_outside, service_only])
def test_what_no_policy_does_stays_a_loss(fate: Fate) -> None:
    fleet = shared(DATABASE)
    raw, _ = asked(fleet, fate)
    assert kept_out.apart(raw, [], dict(fleet)) == raw
    assert verdicts([], raw, dict(fleet)) != []


def test_pods_that_all_lose_and_one_that_is_alone() -> None:
    """Nobody of the node is answered: nothing tells a policy from a fault."""
    fleet = shared(CLIENT)
    raw, _ = asked(fleet, lambda step, *_: "timeout" if step.source in (CLIENT, DATABASE) else "")
    assert kept_out.apart(raw, [], dict(fleet)) == raw
    fleet = cluster()
    raw, _ = asked(fleet, lambda step, *_: "timeout" if step.source == CLIENT else "")
    assert kept_out.apart(raw, [], dict(fleet)) == raw
    assert verdicts([], raw, dict(fleet)) != []


@pytest.mark.parametrize(
    ("finding", "stays"),
    [
        (said("KERNEL-001", "node-0", sentence="rp_filter is strict on lxc123abc"), True),
        (said("KERNEL-001", "node-0", Status.WARN, "rp_filter is strict on lxc123abc"), False),
        (said("KERNEL-001", "node-1", sentence="rp_filter is strict on lxc123abc"), False),
    ],
)
def test_a_loss_that_a_check_explains_stays_one(finding: Finding, stays: bool) -> None:
    fleet = shared(CLIENT)
    raw, _ = asked(fleet, denied)
    hops = kept_out.apart(raw, [finding], dict(fleet))
    assert unknown(hops) == (set() if stays else {THERE})
    if stays:
        (verdict,) = verdicts([finding], hops, dict(fleet))
        assert (verdict["check"], verdict["hop"]) == ("KERNEL-001", THERE)
