"""What captures say about a question: where it was seen, joined by its id, its name and its addresses.

A query keeps its id and name through NAT, which rewrites addresses; a server that asks further takes a new id and its
own address: what it asks is known by its name, and by an address of this node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypedDict

import dns.name

from models.packets import ACK, FIN, RST, SYN, Message, Packet, message, packet
from models.pcap import frames
from probes import wire
from probes.capture import Answered, Capture
from probes.capture_filter import Point
from probes.carry import first_try
from probes.count import asked
from probes.probe import Probe, Result

#: Packets that a journey quotes.
_QUOTED = 12


class Journey(TypedDict):
    """How far the tries of one question came. Counts by interface hold those that could be captured without a gap.

    + hop: id of the hop that it belongs to, "" for none; asked: the question in one line
    + sent: tries seen at the source, those that the node says it sent where the source was not captured
    + arrived: tries seen where they enter the node's network (or the pod that they are for), by interface
    + answered: tries whose answer was seen anywhere; back: those whose answer reached the source
    + left: questions with this name that left the node, by interface; left_answered: those that were answered there
    + closed: connections that the other end closed or refused without an answer (TCP)
    + errors: ICMP errors, in words; unseen: what could not be captured, and why
    + files: the pcap files, where they are kept
    """

    hop: str
    node: str
    asked: str
    protocol: str
    name: str
    sent: int
    arrived: dict[str, int]
    answered: int
    back: int
    left: dict[str, int]
    left_answered: dict[str, int]
    closed: int
    errors: list[str]
    unseen: list[str]
    sentence: str
    evidence: list[str]
    files: list[str]


@dataclass
class _Seen:
    """What one interface saw of one question.

    + queries, answers: ids of its tries
    + further, further_answered: addresses and ids of what a server of this node asked because of it
    + opened, ended: client's ports of TCP connections; asking, answering: of those with a query, with an answer
    """

    queries: set[int] = field(default_factory=set)
    answers: set[int] = field(default_factory=set)
    further: set[tuple[str, int]] = field(default_factory=set)
    further_answered: set[tuple[str, int]] = field(default_factory=set)
    opened: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    asking: set[int] = field(default_factory=set)
    answering: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    quotes: list[str] = field(default_factory=list)


def journeys(
    node: str, answered: Answered, own: Collection[str], files: Mapping[int, str], hops: Mapping[int, str]
) -> list[Journey]:
    """One journey per question that was asked during the captures.

    + own: the addresses of the node and of its pods
    + files: where the capture of each point was kept; hops: id of each question's hop; both by number
    """
    read = [_packets(capture) for capture in answered["captures"]]
    results = answered["results"]
    probes = [result["probe"] for result in results]
    found = []
    for number, result in enumerate(results):
        if result["probe"]["protocol"] == "icmp":
            continue
        ids = _ids(probes, number) if result["carrier"] in ("bash", "python3") else None
        others = set().union(*(_ids(probes, other) for other in range(len(probes)) if other != number))
        seen = [
            (capture, packets if isinstance(packets, str) else _seen(packets, result["probe"], ids, others, own))
            for capture, packets in zip(answered["captures"], read, strict=True)
            if _concerns(capture["point"], result["probe"])
        ]
        kept = [
            files[index]
            for index, capture in enumerate(answered["captures"])
            if index in files and _concerns(capture["point"], result["probe"])
        ]
        found.append(_journey(node, hops.get(number, ""), result, seen, kept))
    return found


def _concerns(point: Point, probe: Probe) -> bool:
    """Another pod's own interface tells nothing about this question."""
    return point["role"] not in ("source", "arrival") or point["host"] == probe["source"]["address"]


def _ids(probes: Sequence[Probe], number: int) -> set[int]:
    first = first_try(probes, number)
    return {wire.identifier(first + nth) for nth in range(probes[number]["tries"])}


def _packets(capture: Capture) -> list[tuple[Packet, Message | None]] | str:
    """The packets with their DNS messages, or why there are none."""
    if capture["problem"]:
        return capture["problem"]
    try:
        found = [read for frame in frames(capture["pcap"]) if (read := packet(frame)) is not None]
    except ValueError as error:
        return str(error)
    return [(read, message(read) if read.protocol != "icmp" else None) for read in found]


def _seen(
    packets: Sequence[tuple[Packet, Message | None]],
    probe: Probe,
    ids: set[int] | None,
    others: set[int],
    own: Collection[str],
) -> _Seen:
    """What one interface saw of a question.

    + ids: of its tries; None where they are not known (dig chooses its own): then by the source's address
    + others: ids of the other questions' tries, of which some may have the same name
    """
    seen = _Seen()
    name, source = dns.name.from_text(probe["name"]).to_text().lower(), probe["source"]["address"]
    ports: set[tuple[str, int]] = set()
    for one, said in packets:
        if said is None or one.protocol != probe["protocol"] or (said.name, said.rdtype) != (name, probe["rdtype"]):
            continue
        asker = (one.destination, one.dport) if said.response else (one.source, one.sport)
        mine = said.id in ids if ids is not None else asker[0] == source if source else asker[0] in own
        key = (asker[0], said.id)
        if mine:
            (seen.answers if said.response else seen.queries).add(said.id)
            (seen.answering if said.response else seen.asking).add(asker[1])
        elif said.response and key in seen.further:
            seen.further_answered.add(key)
        elif not said.response and _further(one, said, probe, others, own):
            seen.further.add(key)
        else:
            continue
        ports.add(asker)
        seen.quotes.append(_quote(one, said))
    for one, _ in packets:
        if one.protocol == "icmp" and (one.source, one.sport) in ports:
            seen.errors.append(f"{one.reporter} says that {one.destination}:{one.dport} is unreachable")
        if one.protocol == "tcp" == probe["protocol"]:
            _stream(seen, one, probe)
    return seen


def _further(one: Packet, said: Message, probe: Probe, others: set[int], own: Collection[str]) -> bool:
    """A server of this node asks somebody else, because it was asked itself."""
    return one.source in own and said.id not in others and one.destination != probe["destination"]


def _stream(seen: _Seen, one: Packet, probe: Probe) -> None:
    source, goal = probe["source"]["address"], (probe["destination"], probe["port"])
    if one.flags & (SYN | ACK) == SYN and (one.destination, one.dport) == goal and source in ("", one.source):
        seen.opened.add(one.sport)
    elif (one.source, one.sport) == goal and one.flags & (RST | FIN) and source in ("", one.destination):
        seen.ended.add(one.dport)


def _journey(
    node: str, hop: str, result: Result, seen: Sequence[tuple[Capture, _Seen | str]], files: list[str]
) -> Journey:
    probe = result["probe"]
    unseen = [f"{_where(capture)} could not be captured: {one}" for capture, one in seen if isinstance(one, str)]
    known = [(capture, one) for capture, one in seen if not isinstance(one, str)]
    for capture, _ in known:
        if capture["full"]:
            unseen.append(f"{_where(capture)}: the capture was full, packets are missing")
    sources = [one for capture, one in known if capture["point"]["role"] == "source"]
    tried = sum(attempt["outcome"] != "not sent" for attempt in result["tries"])
    counted = max((max(len(one.queries), len(one.opened)) for one in sources), default=0)
    back = len(set().union(*(one.answers for one in sources)))
    if not sources:
        back = sum(attempt["outcome"] == "answered" for attempt in result["tries"])
    uplinks = [(capture, one) for capture, one in known if capture["point"]["role"] == "uplink"]
    closed: set[int] = set()
    for one in sources:
        closed |= (one.opened | one.asking) & one.ended - one.answering
    journey: Journey = {
        "hop": hop,
        "node": node,
        "asked": asked(result),
        "protocol": probe["protocol"],
        "name": probe["name"],
        "sent": counted if sources else tried,
        "arrived": {
            _where(capture): max(len(one.queries), len(one.opened))
            for capture, one in known
            if capture["point"]["role"] in ("arrival", "target")
        },
        "answered": max(back, len(set().union(*(one.answers for _, one in known)))),
        "back": back,
        "left": {_where(capture): len(one.queries) + len(one.further) for capture, one in uplinks},
        "left_answered": {_where(capture): len(one.answers) + len(one.further_answered) for capture, one in uplinks},
        "closed": len(closed),
        "errors": list(dict.fromkeys(error for _, one in known for error in one.errors)),
        "unseen": unseen,
        "sentence": "",
        "evidence": [f"{_where(capture)}: {quote}" for capture, one in known for quote in one.quotes[:_QUOTED]],
        "files": files,
    }
    full = {_where(capture) for capture, _ in known if capture["full"]}
    journey["sentence"] = _sentence(journey, full)
    return journey


def _sentence(journey: Journey, full: Collection[str]) -> str:
    """`node-0: pod a -> b:53 UDP name A: 5 sent, 5 arrived on cilium_host, never answered; nothing on bond0`."""
    sent = journey["sent"]
    parts = [f"{sent} sent" if sent else "nothing left the source"]
    for where, count in journey["arrived"].items():
        if count or where not in full:
            parts.append(f"{count or 'none'} arrived on {where}")
    if journey["back"]:
        parts.append("all answered" if journey["back"] >= sent else f"{journey['back']} answered")
    elif journey["answered"]:
        parts.append(f"{journey['answered']} answered, but no answer came back to the source")
    elif sent:
        parts.append("never answered")
    if journey["closed"]:
        parts.append(f"{journey['closed']} closed by the other end without an answer")
    ways = []
    for where, count in journey["left"].items():
        answers = journey["left_answered"][where]
        if count:
            came = "no answer came back" if not answers else f"{answers} answered there"
            ways.append(f"{count} left on {where}, {came}")
        elif where not in full:
            ways.append(f"nothing on {where}")
    text = "; ".join([", ".join(parts), *ways, *journey["errors"][:3], *journey["unseen"]])
    return f"{journey['node']}: {journey['asked']}: {text}"


def _where(capture: Capture) -> str:
    point = capture["point"]
    return f"{point['interface']} of {point['host']}" if point["netns"] else point["interface"]


def _quote(one: Packet, said: Message) -> str:
    time = datetime.fromtimestamp(one.time, UTC).strftime("%H:%M:%S.%f")
    kind = "answer" if said.response else "query"
    return (
        f"{time} {one.protocol} {one.source}:{one.sport} > {one.destination}:{one.dport} "
        f"{kind} id {said.id} {said.name} {said.rdtype}"
    )
