"""One verdict per incident: which hop loses first, why, whom it hits, what it is not, and what fixes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from checks import blame, remedies, splits, wording
from checks.causes import CAUSES, Cause
from checks.diagnosis import Hop, Verdict
from checks.finding import Finding, Status
from checks.incidents import Incident, incidents, names
from facts.snapshot import Snapshot
from models.listed import listed
from probes.probe import shared

#: Nodes that one sentence names; all of them are the culprits.
_MOST_NODES = 10
_CAUSES = {cause.check: cause for cause in CAUSES}


def verdicts(findings: Sequence[Finding], hops: Sequence[Hop], fleet: Mapping[str, Snapshot | None]) -> list[Verdict]:
    """The incidents, the one that loses most first. None where nothing is lost and nothing that must work is broken.

    First come the causes that are proven by their finding; then those that only may be the reason, for losses that
    nothing else explains; what is lost then is a verdict that names the hop alone.
    """
    losing = {hop["id"]: hop for hop in hops if hop["state"] == "loses"}
    after = blame.follows(hops)
    claimed: set[str] = set()
    found: list[tuple[list[str], Verdict]] = []
    known = incidents(findings, fleet)
    for incident in sorted((one for one in known if not one.symptom), key=lambda one: not one.certain):
        here = [key for key, hop in losing.items() if spoils(incident, hop)]
        direct = [key for key in after if key in here]
        if not incident.certain:
            direct = here = [key for key in direct if key not in claimed]
        if not here and not incident.fails:
            continue
        claimed |= set(here)
        hit = list(dict.fromkeys([*(direct or here), *here, *(key for one in here for key in after.get(one, ()))]))
        found.append((hit, _explained(incident, hit, losing, findings, hops, fleet)))
    symptoms = [one for one in known if one.symptom]
    for together in _together([losing[key] for key in after if key not in claimed], hops):
        hit = list(dict.fromkeys(key for hop in together for key in (hop["id"], *after.get(hop["id"], ()))))
        theirs = [one for one in symptoms if any(spoils(one, losing[key]) for key in hit)]
        symptoms = [one for one in symptoms if one not in theirs]
        found.append((hit, _unexplained(together, hit, theirs, losing, findings, hops)))
    # Where the hops were asked as well, they have the last word: a stray question is no incident.
    asked = [hop for hop in hops if hop["state"] != "unknown"]
    unasked = [one for one in symptoms if one.fails and not any(spoils(one, hop) for hop in asked)]
    found += [([], _explained(one, [], losing, findings, hops, fleet)) for one in unasked]
    return [verdict for hit, verdict in sorted(found, key=lambda pair: -_lost(pair[0], losing))]


def spoils(incident: Incident, hop: Hop) -> bool:
    """Whether the cause, or what follows from it, is one that this hop's losses may come from."""
    nodes = {hop["node"], hop["owner"].partition("/")[0]}
    wrong = (finding for node in nodes for finding in incident.wrong.get(node, ()))
    return any(_reaches(_CAUSES[finding["check"]], finding, hop) for finding in wrong)


def _reaches(cause: Cause, finding: Finding, hop: Hop) -> bool:
    if hop["stage"] not in cause.stages:
        return False
    asking, owner = hop["node"] == finding["node"], hop["owner"].partition("/")[0]
    if cause.reach == "passing here":
        return asking or owner == finding["node"]
    if cause.reach == "asked of its resolvers":
        return owner == finding["node"]
    if cause.reach == "asked of its dnsmasq":
        return hop["owner"] == finding["node"]
    past = hop["stage"] == "pod to endpoint" or "/pod " in hop["owner"]
    if cause.reach == "asked of services from here" and past:
        return asking and bool(names(finding["sentence"], [hop["destination"]]))
    return asking


def _explained(
    incident: Incident,
    hit: Sequence[str],
    losing: Mapping[str, Hop],
    findings: Sequence[Finding],
    hops: Sequence[Hop],
    fleet: Mapping[str, Snapshot | None],
) -> Verdict:
    root = incident.roots[0]
    hop = losing[hit[0]] if hit else None
    others = "" if len(incident.nodes) == 1 else f" (the same on {listed(incident.nodes[1:], _MOST_NODES)})"
    evidence = [line for one in incident.roots for line in one["evidence"]]
    return {
        "check": root["check"],
        "title": root["title"],
        "hop": hop["id"] if hop else "",
        "sentence": f"{wording.before(hop, hops)}{blame.sentence(hop)}: {root['sentence']}{others}"
        if hop
        else f"{root['node']}: {root['sentence']}{others}",
        "culprits": incident.nodes,
        "affected": wording.askers(_of(hit, losing)) or incident.nodes,
        "consequence": wording.consequence(_of(hit, losing))
        or f"nothing that was asked is lost now; {incident.cause.risk}",
        "evidence": wording.bounded([*evidence, *(splits.splits(hops, hop) if hop else [])]),
        "explained": sorted({f"{one['check']} {one['node']}" for one in incident.consequences}),
        "ruled_out": wording.ruled_out(incident.nodes, hop, findings, hops),
        "certainty": "certain" if incident.certain or not (hop or incident.symptom) else "likely",
        "operation": root["operation"],
        "fix": remedies.fix(root["check"], root["operation"], incident.nodes, fleet),
    }


def _unexplained(
    together: Sequence[Hop],
    hit: Sequence[str],
    symptoms: Sequence[Incident],
    losing: Mapping[str, Hop],
    findings: Sequence[Finding],
    hops: Sequence[Hop],
) -> Verdict:
    """Where no check tells why, the hop is named, and what could not be looked at there."""
    hop = together[0]
    asking = sorted({each["node"] for each in together})
    owner = hop["owner"].partition("/")[0]
    common = len({each["destination"] for each in together}) == 1 and len(together) > 1
    # An address that each node has to itself is one that many lose, and no one server.
    apart = common and not shared(hop["destination"])
    owners = sorted({each["owner"].partition("/")[0] for each in together} - {""})
    culprits = owners if common and not apart else asking
    rest = [name for name in asking if name != hop["node"]] if apart else []
    others = f" (the same on {listed(rest, _MOST_NODES)})" if rest else ""
    unknown = [
        f"not known: {one['node']} {one['check']}: {one['sentence']}"
        for one in findings
        if one["status"] == Status.UNKNOWN and one["node"] in {*asking, owner}
    ]
    return {
        "check": "",
        "title": f"Questions are lost, {hop['stage']}",
        "hop": hop["id"],
        "sentence": f"{wording.before(hop, hops)}{blame.sentence(hop)}{others}, and no check tells why",
        "culprits": culprits,
        "affected": wording.askers(_of(hit, losing)),
        "consequence": wording.consequence(_of(hit, losing)),
        "evidence": wording.bounded(
            [*map(blame.sentence, together), *splits.splits(hops, hop), *hop["because"], *unknown]
        ),
        "explained": sorted({f"{one['check']} {one['node']}" for each in symptoms for one in each.roots}),
        "ruled_out": wording.ruled_out(sorted({*asking, owner} - {""}), hop, findings, hops),
        "certainty": "likely",
        "operation": "",
        "fix": remedies.look(hop),
    }


def _together(remaining: Iterable[Hop], hops: Sequence[Hop]) -> list[list[Hop]]:
    """Losing hops that have one address, or one node that asks, in common: the largest share of what is lost first."""
    rest = list(remaining)
    asked = Counter(key for hop in hops for key in _ends(hop))
    found: list[list[Hop]] = []
    while rest:
        lost = Counter(key for hop in rest for key in _ends(hop))
        # Of two that explain equally much, the one of which least works.
        end = max(lost, key=lambda key: (lost[key], lost[key] / asked[key], key[0] == "to"))
        found.append([hop for hop in rest if end in _ends(hop)])
        rest = [hop for hop in rest if end not in _ends(hop)]
    return found


def _ends(hop: Hop) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("to", f"{hop['destination']}:{hop['port']}"), ("from", hop["node"])


def _of(hit: Iterable[str], losing: Mapping[str, Hop]) -> list[Hop]:
    return [losing[key] for key in hit]


def _lost(hit: Iterable[str], losing: Mapping[str, Hop]) -> int:
    return sum(loss["lost"] for key in hit for loss in blame.losing(losing[key]))
