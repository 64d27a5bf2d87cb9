"""From what was seen to the diagnosis. Pure: a bundle that is replayed offline is judged as the run that saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from checks import kept_out
from checks.case import Case
from checks.catalogue import judge
from checks.diagnosis import Diagnosis, Hop, doubtful
from checks.finding import Finding, Status
from checks.verdict import verdicts
from deploys.bundle import Recorded
from facts.counters import Counters
from facts.snapshot import Snapshot
from models import conntrack, datagrams, kube_services, node
from models.resolvers import Fleet
from probes.count import lost, sent
from probes.denied import denied
from probes.hops import left_open, lost_once
from probes.probe import Result, Source
from reports import redaction

NOTHING_SERVES = "nothing was proven: no address of these nodes serves DNS (dns_vips in group_data/all.py)"


def judged(seen: Recorded) -> Diagnosis:
    """What is wrong, and why."""
    fleet = of(seen)
    findings = [_without_secrets(finding) for case in fleet for finding in judge(case)]
    hops: list[Hop] = kept_out.apart(seen.evidence["hops"], findings, seen.fleet)
    # Every report, and the terminal, have what is quoted from here: command lines, files, logs.
    timeline, logs, captures = redaction.everything(
        [
            seen.evidence.get("timeline", {"events": [], "notes": []}),
            seen.evidence.get("logs", {"sentences": [], "notes": []}),
            seen.evidence.get("captures", {"journeys": [], "notes": []}),
        ]
    )
    found = verdicts(findings, hops, seen.fleet)
    for verdict in found:
        journeys = [one for one in captures["journeys"] if one["hop"] == verdict["hop"]]
        verdict["evidence"] += [line for one in journeys for line in (one["sentence"], *one["files"])]
        destination = next((hop["destination"] for hop in hops if hop["id"] == verdict["hop"]), None)
        verdict["evidence"] += [line for line in logs["sentences"] if destination and destination in line]
    serves = any(case.vips or case.dns_services for case in fleet)
    return {
        "format": 1,
        "started": seen.started,
        "finished": seen.finished,
        "nodes": seen.nodes,
        "hops": hops,
        "findings": findings,
        "verdicts": found,
        "timeline": timeline["events"],
        "unseen": [
            *([] if serves else [NOTHING_SERVES]),
            *redaction.everything(seen.evidence["unseen"]),
            *kept_out.unseen(hops),
            *_unread(seen.fleet),
            *timeline["notes"],
            *logs["notes"],
            *captures["notes"],
        ],
    }


def _without_secrets(finding: Finding) -> Finding:
    shown: list[str] = redaction.everything(finding["evidence"])
    return {**finding, "sentence": redaction.everything(finding["sentence"]), "evidence": shown}


def well(diagnosis: Diagnosis) -> bool:
    """Whether all is proven to be well: no failure, nothing unknown, no node left out.

    A pod that seems to be kept from DNS on purpose is no doubt: it would be one for ever.
    """
    return not (
        diagnosis["verdicts"]
        or any(diagnosis["nodes"].values())
        or any(finding["status"] in (Status.FAIL, Status.UNKNOWN) for finding in diagnosis["findings"])
        or any(hop["state"] == "loses" or doubtful(hop) for hop in diagnosis["hops"])
        or NOTHING_SERVES in diagnosis["unseen"]
    )


def of(seen: Recorded) -> list[Case]:
    """One case for each node, in their order."""
    known = seen.evidence["endpoints"]
    vips = node.vips(seen.fleet, seen.policy["dns_vips"])
    # A bundle of an earlier version has no such key.
    services = kube_services.vips(seen.fleet, known, seen.policy.get("dns_services"))
    among = Fleet(seen.fleet, vips, services, known)
    found: list[Case] = []
    for name in seen.fleet:
        before, after = seen.fleet[name], seen.evidence["counters"].get(name)
        every = seen.results.get(name, [])
        results, strays = _together(every)
        # What a policy drops on a pod's link never gets to IPVS.
        kept = [_way(result) for result in denied([result for result in results if result not in strays], {})]
        case = Case(
            name,
            seen.fleet,
            vips[name],
            results,
            strays=strays,
            endpoints=known,
            ipvs_deltas=_counted(before, after, services, [result for result in every if _way(result) not in kept]),
            drops=conntrack.drops(before, after),
            clashes=conntrack.clashes(before, after),
            bad_checksums=datagrams.bad_checksums(before, after),
            among=among,
        )
        found.append(case)
    return found


def _together(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """What was asked in several rounds, as if it had been asked in one; and what lost no try when it was asked last.

    What a pod lost that has ended since is left out.
    """
    rounds: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        probe = result["probe"]
        key = (*probe["source"].values(), *(probe[each] for each in _SAME))  # type: ignore[literal-required]
        rounds.setdefault(key, []).append(result)
    found: list[Result] = []
    strays: list[Result] = []
    ended = [asked[0]["probe"]["source"] for asked in rounds.values() if left_open(asked)]
    for asked in rounds.values():
        if asked[0]["probe"]["source"] in ended and lost_once(asked):
            continue
        tries = [attempt for result in asked for attempt in result["tries"]]
        found.append({**asked[-1], "probe": {**asked[-1]["probe"], "tries": len(tries)}, "tries": tries})
        if lost(found[-1]) and not lost(asked[-1]):
            strays.append(found[-1])
    return found, strays


_SAME = ("destination", "port", "protocol", "name", "rdtype", "rdclass")


def _way(result: Result) -> tuple[Source, str]:
    return result["probe"]["source"], result["probe"]["destination"]


def _counted(
    before: Snapshot | None, after: Counters | None, services: Sequence[str], results: Sequence[Result]
) -> dict[str, tuple[int, int]]:
    """Per service the questions that were sent over UDP, and the connections that IPVS has counted since."""
    found: dict[str, tuple[int, int]] = {}
    for service in services if before and after else ():
        first = kube_services.connections(before, service) if before else None
        second = kube_services.connections(after, service) if after else None
        asked = [r for r in results if (r["probe"]["destination"], r["probe"]["protocol"]) == (service, "udp")]
        if first is not None and second is not None and asked:
            found[service] = (sum(map(sent, asked)), second - first)
    return found


def _unread(fleet: Mapping[str, Snapshot | None]) -> list[str]:
    """The sections that could not be read, with the nodes where that is so."""
    where: dict[tuple[str, str], list[str]] = {}
    for name, read in sorted(fleet.items()):
        sections: Mapping[str, Any] = read or {}
        for section, reading in sections.items():
            if reading["state"] not in ("value", "empty"):
                where.setdefault((section, reading["state"]), []).append(name)
    return [f"{section}: {state} on {', '.join(nodes)}" for (section, state), nodes in where.items()]
