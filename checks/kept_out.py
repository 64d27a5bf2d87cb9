"""Pods that a NetworkPolicy keeps from DNS, as far as questions tell: what they lose is no incident, and not known.

A default-deny policy without DNS is usual for a pod that needs no names, and Cilium's DNS proxy refuses every name that
no rule of a pod allows. Then one pod loses all that it asks an address, or is refused all but some names, and another
pod of its node is answered everything there. A fault of the pod's own link looks alike: where a finding that fails, or
a hop behind, is the reason, it stays a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from checks import blame
from checks.diagnosis import Hop, Loss, asked_at
from checks.finding import Finding, Status
from checks.incidents import incidents
from checks.verdict import spoils
from facts.snapshot import Snapshot
from models.listed import listed

_REASON = "a NetworkPolicy, as it seems, or the pod's own link"


def apart(hops: Sequence[Hop], findings: Sequence[Finding], fleet: Mapping[str, Snapshot | None]) -> list[Hop]:
    """The hops, of which those of a pod that is kept out are unknown, and say why."""
    suspected = _suspected(hops)
    if not suspected:
        return list(hops)
    # What such a pod loses past the service's address does not explain what it loses there.
    culprits = blame.follows(_unknown(hops, {hop["id"]: _REASON for _, *behind in suspected for hop in behind}))
    failed = incidents([finding for finding in findings if finding["status"] == Status.FAIL], fleet)
    found: dict[str, str] = {}
    for group in suspected:
        first = group[0]
        if first["id"] in culprits and not any(spoils(incident, hop) for incident in failed for hop in group):
            why = f"other pods of {first['node']} are answered at {asked_at(first)}: {_REASON}"
            found |= dict.fromkeys((hop["id"] for hop in group), why)
    return _unknown(hops, found)


def unseen(hops: Sequence[Hop]) -> list[str]:
    """What is not known because of such pods, in sentences."""
    pods: dict[str, list[str]] = {}
    nodes: dict[str, None] = {}
    for hop in hops:
        if "why" in hop and hop["stage"] == "pod to service":
            pods.setdefault(asked_at(hop), []).append(f"{hop['node']}/{hop['source']}")
        elif "why" in hop:
            nodes[hop["node"]] = None
    found = [
        f"{listed(names)}: not answered at {end}, or not for every name, unlike other pods of the node: {_REASON}"
        for end, names in pods.items()
    ]
    if nodes:
        found.append(f"CoreDNS's pods were not asked one by one from {listed(list(nodes))}: by such a pod alone")
    return found


def _unknown(hops: Sequence[Hop], why: Mapping[str, str]) -> list[Hop]:
    return [{**hop, "state": "unknown", "why": why[hop["id"]]} if hop["id"] in why else hop for hop in hops]


def _suspected(hops: Sequence[Hop]) -> list[list[Hop]]:
    """Of each pod that seems to be kept out its hop to an address, and those to the endpoints behind that."""
    by_id = {hop["id"]: hop for hop in hops}
    asking: dict[tuple[str, str, int], list[Hop]] = {}
    for hop in hops:
        if hop["stage"] == "pod to service":
            asking.setdefault((hop["node"], hop["destination"], hop["port"]), []).append(hop)
    found: list[list[Hop]] = []
    for alike in asking.values():
        answered = [_kinds(hop) for hop in alike if hop["state"] == "ok"]
        for hop in alike:
            if not _is_kept_out(hop) or not any(_kinds(hop) <= kinds for kinds in answered):
                continue
            ids = dict.fromkeys(one for behind in hop.get("needs", {}).values() for one in behind)
            own = [by_id[one] for one in ids if one in by_id and by_id[one]["source"] == hop["source"]]
            behind = [one for one in own if one["stage"] == "pod to endpoint" and one["state"] != "unknown"]
            if all(map(_is_kept_out, behind)):
                found.append([hop, *behind])
    return found


def _is_kept_out(hop: Hop) -> bool:
    """Whether all that was asked is lost; or, for some names, all is answered otherwise than it must be."""
    asked = _asked(hop)
    lost = [one for one in asked if one["lost"]]
    rest = {one["name"] for one in asked if not one["lost"]}
    if hop["state"] != "loses" or any(one["lost"] < one["sent"] for one in lost):
        return False
    refused = all(set(one["outcomes"]) <= {"bad answer", "not sent"} for one in lost)
    return not rest or (refused and rest.isdisjoint(one["name"] for one in lost))


def _kinds(hop: Hop) -> set[tuple[str, str]]:
    return {(one["protocol"], one["name"]) for one in _asked(hop)}


def _asked(hop: Hop) -> list[Loss]:
    # A policy for port 53 need not say anything about echo requests.
    return [one for one in hop["losses"] if one["protocol"] != "icmp" and one["sent"]]
