"""From what was seen to a diagnosis, without a node: rounds put together, counters compared, and when all is well."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from checks.diagnosis import Diagnosis, Hop
from checks.finding import Status
from deploys import cases
from deploys.bundle import Recorded
from facts.counters import Counters
from probes.probe import Outcome, Result, pod, probe
from tests.checks.kube_fleet import VIP, fleet

TRY: dict[str, Any] = {"rtt_ms": None, "rcode": None, "answers": [], "detail": ""}


def result(outcomes: list[Outcome], destination: str = VIP, **given: Any) -> Result:
    asked = probe(destination, "kubernetes.default.svc.cluster.local", tries=len(outcomes), **given)
    tries = [{"outcome": outcome, **TRY} for outcome in outcomes]
    return cast(Result, {"probe": asked, "carrier": "bash", "tries": tries})


def seen(results: list[Result], counted: int) -> Recorded:
    """A healthy fleet, whose node-0 was asked from; its IPVS has counted so many connections meanwhile."""
    nodes = fleet()
    ipvs: Any = nodes["node-0"]["ipvs"]
    later: Any = json.loads(json.dumps(ipvs))
    for table, connections in ((ipvs, 100), (later, 100 + counted)):
        for service in table["value"]["services"]:
            service["counters"] = {"connections": connections, "packets_in": 0, "packets_out": 0}
    node = nodes["node-0"]
    counters = cast(Counters, {"conntrack": node["conntrack"], "ipvs": later, "udp": node["udp"]})
    return Recorded(
        started="2026-11-22T03:00:00+00:00",
        finished="2026-11-22T03:00:09+00:00",
        nodes=dict.fromkeys(nodes, ""),
        fleet=dict(nodes),
        results={"node-0": results},
        policy={"dns_vips": None},
        evidence={"hops": [], "counters": {"node-0": counters}, "endpoints": {}, "unseen": []},
    )


def test_the_rounds_of_one_question_are_judged_together() -> None:
    rounds = [result(["answered"] * 3), result(["timeout"]), result(["answered"], protocol="tcp")]
    (case, *_) = cases.of(seen(rounds, 4))
    assert [(one["probe"]["protocol"], one["probe"]["tries"], len(one["tries"])) for one in case.results] == [
        ("udp", 4, 4),
        ("tcp", 1, 1),
    ]


def test_what_was_lost_at_first_and_not_again_is_a_stray() -> None:
    """dnsmasq's own answers, over a busy moment: it is told, and no failure; what is lost again is one."""
    once, again = ["timeout", "answered"], ["answered"] * 3
    for last, strays in ((again, 1), (["answered", "timeout"], 0)):
        rounds = [result(cast("list[Outcome]", each)) for each in (once, last)]
        (case, *_) = cases.of(seen(rounds, 0))
        assert len(case.strays) == strays


def test_what_a_pod_lost_that_has_ended_is_left_out() -> None:
    """It is nobody's fault; IPVS has counted what it sent, though."""
    ended = pod("pod 10.244.0.9", 4242, address="10.244.0.9")
    rounds = [result(["answered", "timeout"], source=ended), result(["not sent"] * 3, source=ended)]
    # Some questions are asked once only.
    rounds += [result(["timeout"], protocol="tcp", source=ended)]
    (case, *_) = cases.of(seen([*rounds, result(["answered"])], 3))
    assert [one["probe"]["source"]["name"] for one in case.results] == ["host"]
    assert case.ipvs_deltas == {VIP: (3, 3)}


def test_the_services_are_those_that_the_policy_names() -> None:
    recorded = seen([], 0)
    assert cases.of(recorded)[0].dns_services == [VIP]
    recorded.policy["dns_services"] = ["10.32.0.99"]
    assert cases.of(recorded)[0].dns_services == ["10.32.0.99"]


@pytest.mark.parametrize(("counted", "status"), [(4, Status.PASS), (0, Status.FAIL)])
def test_the_counters_are_compared_with_all_that_was_sent(counted: int, status: Status) -> None:
    recorded = seen([result(["answered"] * 3), result(["timeout"]), result(["not sent"])], counted)
    assert cases.of(recorded)[0].ipvs_deltas == {VIP: (4, counted)}
    found = [one for one in cases.judged(recorded)["findings"] if (one["check"], one["node"]) == ("IPVS-001", "node-0")]
    assert [one["status"] for one in found] == [status]


def test_a_recording_is_judged_as_it_was_after_it_was_saved() -> None:
    recorded = seen([result(["answered"] * 4)], 4)
    saved = Recorded(**json.loads(json.dumps(recorded.__dict__)))
    assert json.dumps(cases.judged(saved)) == json.dumps(cases.judged(recorded))


def test_what_the_past_tells_goes_to_the_verdict_that_it_is_about() -> None:
    recorded = seen([], 0)
    hop = cast(
        Hop,
        {
            "id": "node-1/pod 10.244.0.13/172.25.4.9:53",
            "stage": "endpoint to upstream",
            "node": "node-1",
            "source": "pod 10.244.0.13",
            "destination": "172.25.4.9",
            "port": 53,
            "owner": "",
            "because": [],
            "losses": [
                {
                    "protocol": "udp",
                    "name": "google.com",
                    "sent": 20,
                    "lost": 20,
                    "unknown": 0,
                    "low": 0.83,
                    "high": 1.0,
                }
                | {"outcomes": {"timeout": 20}, "median_ms": None, "slowest_ms": None}
            ],
            "state": "loses",
            "needs": {},
        },
    )
    event = {"time": "2026-11-22T02:59:00Z", "node": "node-1", "what": "dnsmasq was restarted", "source": "systemd"}
    logged = "no answer from 172.25.4.9:53, 7 times: https://user:hunter2@etcd"
    recorded.evidence["hops"] = [hop]
    recorded.evidence["timeline"] = {"events": [event], "notes": ["node-2: its clock is 5 s ahead", "--token hunter2"]}
    recorded.evidence["logs"] = {"sentences": [logged, "of another"], "notes": []}
    recorded.evidence["captures"] = {
        "journeys": [{"hop": hop["id"], "sentence": "5 sent, none answered", "files": ["a.pcap"]}],
        "notes": [],
    }
    diagnosis = cases.judged(recorded)
    (verdict,) = diagnosis["verdicts"]
    # What is quoted is quoted without secrets.
    logged = "no answer from 172.25.4.9:53, 7 times: https://[redacted]@etcd"
    assert {"5 sent, none answered", "a.pcap", logged} <= set(verdict["evidence"])
    assert "of another" not in verdict["evidence"]
    assert diagnosis["timeline"] == [event]
    assert {"node-2: its clock is 5 s ahead", "--token [redacted]"} <= set(diagnosis["unseen"])


def test_well_is_only_what_is_proven() -> None:
    healthy: Diagnosis = {
        "format": 1,
        "started": "",
        "finished": "",
        "nodes": {"node-0": ""},
        "hops": [],
        "findings": [],
        "verdicts": [],
        "timeline": [],
        "unseen": ["no kubectl: EndpointSlices were not compared"],
    }
    assert cases.well(healthy)
    unknown = {"check": "X", "title": "", "node": "", "sentence": "", "evidence": [], "operation": ""}
    changes: tuple[dict[str, Any], ...] = (
        {"nodes": {"node-0": "it could not be reached"}},
        {"hops": [{"state": "unknown"}]},
        {"findings": [{**unknown, "status": Status.UNKNOWN}]},
        {"findings": [{**unknown, "status": "fail"}]},
        {"unseen": [cases.NOTHING_SERVES]},
        {"verdicts": [{}]},
    )
    for change in changes:
        assert not cases.well(cast(Diagnosis, {**healthy, **change})), change
    assert cases.well(cast(Diagnosis, {**healthy, "findings": [{**unknown, "status": Status.WARN}]}))
    # It would be a doubt for ever.
    kept_out = {"hops": [{"state": "unknown", "why": "a NetworkPolicy, as it seems"}]}
    assert cases.well(cast(Diagnosis, {**healthy, **kept_out}))


def test_what_a_policy_drops_is_not_sought_in_ipvs() -> None:
    name, address = "pod 172.26.2.145", "172.26.2.145"
    answered = result(["answered"] * 4, source=pod(name, 7, address=address))
    lost = result(["timeout"] * 4, source=pod("pod 172.26.2.130", 8, address="172.26.2.130"))
    assert cases.of(seen([answered, lost], 4))[0].ipvs_deltas == {VIP: (4, 4)}
    assert cases.of(seen([lost], 4))[0].ipvs_deltas == {VIP: (4, 4)}
    assert cases.of(seen([result(["answered"] * 4), lost], 4))[0].ipvs_deltas == {VIP: (8, 4)}
