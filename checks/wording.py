"""What a verdict says of the hops that lose, and of those that do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from checks import blame
from checks.causes import CAUSES
from checks.diagnosis import STAGES, Hop, RuledOut
from checks.finding import Finding, Status

#: Lines of evidence, and causes ruled out, that one verdict shows at most.
_MOST = 20
#: Hops that are fine, told beside one that loses, at most.
_FINE = 4
_PROTOCOLS = ("udp", "tcp", "icmp")


def before(hop: Hop | None, hops: Sequence[Hop]) -> str:
    """`pod -> CoreDNS ok, `: that questions do arrive where the hop begins, "" where nothing shows it."""
    if hop is None or hop["source"] == "host":
        return ""
    leading = [each for each in hops if each["owner"] == f"{hop['node']}/{hop['source']}"]
    good = any(loss["sent"] and not loss["lost"] for each in leading for loss in each["losses"] if loss["name"])
    return "pod -> CoreDNS ok, " if good else ""


def askers(hit: Iterable[Hop]) -> list[str]:
    """Who asks there: nodes and pods."""
    return sorted({hop["node"] if hop["source"] == "host" else f"{hop['node']}/{hop['source']}" for hop in hit})


def consequence(hit: Sequence[Hop]) -> str:
    """`2 pods and 1 node lose 80 of 80 questions over UDP (timeout), 9 of 80 over TCP (closed); ICMP is answered`.

    Only the names and protocols that are lost count: a hop may well answer others.
    """
    who = askers(hit)
    said: list[str] = []
    for protocol in ("udp", "tcp"):
        losses = [loss for hop in hit for loss in blame.losing(hop) if loss["protocol"] == protocol]
        if not losses:
            continue
        ends = Counter[str]()
        for loss in losses:
            ends.update(loss["outcomes"])
        how = [end for end, _ in ends.most_common() if end not in ("answered", "not sent")][:2]
        lost, sent = sum(loss["lost"] for loss in losses), sum(loss["sent"] for loss in losses)
        said.append(f"{lost} of {sent}{'' if said else ' questions'} over {protocol.upper()} ({', '.join(how)})")
    if not said:
        return ""
    echoes = [loss for hop in hit for loss in hop["losses"] if loss["protocol"] == "icmp" and loss["sent"]]
    lost = sum(loss["lost"] for loss in echoes)
    echo = f"; ICMP is {'lost as well' if lost else 'answered'}" if echoes else ""
    pods = sum("/" in one for one in who)
    counts = [_count(pods, "pod"), _count(len(who) - pods, "node")]
    return f"{' and '.join(filter(None, counts))} lose{'s' if len(who) == 1 else ''} {', '.join(said)}{echo}"


def ruled_out(
    nodes: Sequence[str], hop: Hop | None, findings: Sequence[Finding], hops: Sequence[Hop]
) -> list[RuledOut]:
    """The hops that are fine beside the one that loses, and the checks that pass on every node in question."""
    found: list[RuledOut] = []
    if hop is not None:
        here = hop["node"], hop["source"]
        near = [
            each
            for each in hops
            if each["state"] == "ok"
            and ((each["node"], each["source"]) == here or each["destination"] == hop["destination"])
        ]
        near.sort(key=lambda each: STAGES.index(each["stage"]))
        found += [{"check": "", "sentence": _fine(each)} for each in near[:_FINE]]
    for cause in CAUSES:
        said = [one for one in findings if one["check"] == cause.check and one["node"] in nodes]
        if said and all(one["status"] == Status.PASS for one in said):
            found.append({"check": cause.check, "sentence": f"{said[0]['node']}: {said[0]['sentence']}"})
    return found[:_MOST]


def bounded(lines: Iterable[str]) -> list[str]:
    """Each line once, and not too many."""
    kept = list(dict.fromkeys(lines))
    return kept if len(kept) <= _MOST else [*kept[:_MOST], f"... and {len(kept) - _MOST} more lines"]


def _fine(hop: Hop) -> str:
    figures: list[str] = []
    for protocol in _PROTOCOLS:
        losses = [loss for loss in hop["losses"] if loss["protocol"] == protocol and loss["sent"]]
        sent = sum(loss["sent"] for loss in losses)
        if sent:
            figures.append(f"{sent - sum(loss['lost'] for loss in losses)} of {sent} over {protocol.upper()}")
    return f"{blame.where(hop)} answered {', '.join(figures)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
