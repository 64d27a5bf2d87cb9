"""What CoreDNS's complaints mean: who did not answer it, how, how often, and since when.

Source: coredns/plugin/errors (the number in front is the RCODE that the client got), /forward, /loop, /kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Literal, TypedDict

from facts.coredns_logs import LogGroup
from models.listed import listed

Kind = Literal[
    "no answer",
    "refused",
    "unreachable",
    "not permitted",
    "closed",
    "loop",
    "no upstream",
    "too many queries",
    "not resolved",
    "no plugin",
    "API server",
    "crash",
    "other",
]


class Complaint(TypedDict):
    """Complaints of one kind about one upstream, over every CoreDNS of the fleet.

    + upstream: "172.25.4.1:53", "" where the log does not name one; protocol: "udp", "tcp" or ""
    + startup: only CoreDNS's own question at its start (HINFO of the plugin loop) is concerned
    + pods: by node, "node-1 kube-system/coredns-7c9d-abcde"; sources: addresses that it asked from
    + times: how many; first, last: UTC, ISO 8601, on the nodes' clocks; example: a line as it stands
    + since: when the last spell of them began, spell: how many there were in it
    """

    kind: Kind
    upstream: str
    protocol: str
    startup: bool
    pods: list[str]
    sources: list[str]
    times: int
    first: str
    last: str
    since: str
    spell: int
    example: str


#: Words of Go's net package and of CoreDNS; the first that fit decide.
_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"plugin/loop: .*(detected|Forwarding loop)", "loop"),
    (r"no next plugin found", "no plugin"),
    (r"reflector\.go|plugin/kubernetes|apiserver|/api/v1/", "API server"),
    (r"no upstream host|no healthy (upstream|proxies)", "no upstream"),
    (r"concurrent queries exceeded maximum", "too many queries"),
    (r"server misbehaving|no such host", "not resolved"),
    (r"operation not permitted", "not permitted"),
    (r"connection refused", "refused"),
    (r"network is unreachable|no route to host|host is unreachable", "unreachable"),
    (r"i/o timeout|deadline exceeded", "no answer"),
    (r"\bEOF\b|connection reset|broken pipe", "closed"),
)
_END = r"(?:\[[0-9a-fA-F:.]+\]|[0-9.]+):\d+"
_WAY = re.compile(rf"(?:read|write) (udp|tcp)[46]? (\S+?)->({_END})")
#: The port behind an address, where the text still has it.
_PORT = re.compile(r"(?<=[\]0-9]):\d+$")
_DIAL = re.compile(rf"dial (udp|tcp)[46]? ({_END})")


def complaints(nodes: Mapping[str, Iterable[LogGroup]], since: str = "") -> list[Complaint]:
    """Summed up per upstream, kind and protocol; the most frequent first.

    + nodes: what each node's logs say
    + since: UTC, ISO 8601; what was last said before that is left out
    """
    found: dict[tuple[str, str, str, bool], Complaint] = {}
    for node, groups in nodes.items():
        for group in groups:
            if group["last"] < since:
                continue
            one = complaint(node, group)
            key = (one["kind"], one["upstream"], one["protocol"], one["startup"])
            known = found.setdefault(key, one)
            if known is not one:
                _add(known, one)
    return sorted(found.values(), key=lambda one: (-one["times"], one["first"], one["upstream"]))


def sentence(one: Complaint) -> str:
    """`node-1 kube-system/coredns-7c9d: no answer from 172.25.4.1:53 over UDP: 312 times, ... to ...`."""
    pods = listed(one["pods"])
    when = f"once, at {one['first']}" if one["times"] == 1 else f"{one['times']} times, {one['first']} to {one['last']}"
    return f"{pods}: {meaning(one)}: {when}"


def meaning(one: Complaint) -> str:
    """`no answer from 172.25.4.1:53 over UDP`."""
    upstream = one["upstream"] or "an upstream that the log does not name"
    if one["protocol"]:
        upstream += f" over {one['protocol'].upper()}"
    texts: dict[Kind, str] = {
        "no answer": f"no answer from {upstream}",
        "refused": f"{upstream} refuses",
        "unreachable": f"{upstream} is unreachable",
        "not permitted": f"the node itself drops what is sent to {upstream}",
        "closed": f"{upstream} closes the connection without an answer",
        "loop": "its questions come back to it: a forwarding loop",
        "no upstream": "no upstream is left",
        "too many queries": "too many questions wait for their upstream",
        "not resolved": "its own name server cannot resolve an upstream's name",
        "no plugin": "no plugin is responsible for the name",
        "API server": f"the API server is out of reach{': ' + one['upstream'] if one['upstream'] else ''}",
        "crash": "it crashed",
        "other": one["example"],
    }
    return texts[one["kind"]] + (" (only asked at its start, HINFO)" if one["startup"] else "")


def complaint(node: str, group: LogGroup) -> Complaint:
    """What one group of lines means."""
    text = group["text"]
    matching = (kind for pattern, kind in _KINDS if re.search(pattern, text, re.IGNORECASE))
    kind: Kind = "crash" if group["level"] == "PANIC" else next(matching, "other")
    way, dial = _WAY.search(text), _DIAL.search(text)
    upstream, protocol, source = "", "", ""
    if way:
        protocol, source, upstream = way[1], _PORT.sub("", way[2]), way[3]
    elif dial:
        protocol, upstream = dial[1], dial[2]
    elif "errors like" in text:
        protocol = next((name for name in ("udp", "tcp") if re.search(rf"\b{name}\b", text)), "")
    return {
        "kind": kind,
        "upstream": upstream,
        "protocol": protocol,
        "startup": "HINFO: " in text,
        "pods": [f"{node} {group['pod']}"],
        "sources": [source] if _is_address(source) else [],
        "times": group["times"],
        "first": group["first"],
        "last": group["last"],
        "since": group["since"],
        "spell": group["spell"],
        "example": group["example"],
    }


def _add(known: Complaint, one: Complaint) -> None:
    known["times"] += one["times"]
    if one["last"] > known["last"]:
        known["last"], known["example"] = one["last"], one["example"]
    known["first"], known["since"] = min(known["first"], one["first"]), min(known["since"], one["since"])
    known["spell"] += one["spell"]
    known["pods"] = sorted({*known["pods"], *one["pods"]})
    known["sources"] = sorted({*known["sources"], *one["sources"]})


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
