"""The way of a node's queries as a graph: who asks, the service, the CoreDNS pods behind it, dnsmasq, its upstreams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from checks.diagnosis import Diagnosis, Hop, asked_at
from reports import plain
from reports.matrix import hop_name, rate, spoken, worst

Kind = Literal["client", "service", "CoreDNS", "dnsmasq", "upstream"]
KINDS: tuple[Kind, ...] = ("client", "service", "CoreDNS", "dnsmasq", "upstream")
#: Hops of one picture: those that lose come first.
MOST = 60
_WORST = ("ok", "unknown", "loses")

#: What makes two boxes the same one: its kind, and an address with what tells it from others.
Key = tuple[str, ...]


@dataclass
class Box:
    """One party. `name` and `note` are what is written in it."""

    key: Key
    kind: Kind
    name: str
    note: str = ""


@dataclass
class Edge:
    """Hops between two parties. `direct` are those that went past the box where the edge starts.

    `incidents` are the numbers (from 1) of the verdicts whose first losing hop this is.
    """

    start: Key
    end: Key
    direct: bool = False
    hops: list[Hop] = field(default_factory=list)
    incidents: list[int] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The worst of its hops."""
        return max((hop["state"] for hop in self.hops), key=_WORST.index)

    @property
    def label(self) -> str:
        """`ok`, `50% lost`, `unknown`."""
        loss = worst(loss for hop in self.hops if hop["state"] == self.state for loss in hop["losses"])
        return f"{rate(loss)} lost" if self.state == "loses" and loss else self.state

    @property
    def said(self) -> str:
        """Every hop with its losses, for a reader who points at it, or cannot see it."""
        told = [f"{hop_name(hop)}: {'; '.join(map(spoken, hop['losses'])) or hop['state']}" for hop in self.hops[:8]]
        more = [f"and {len(self.hops) - 8} more"] if len(self.hops) > 8 else []
        return "\n".join(["asked past this box:"] * self.direct + told + more)


@dataclass
class Graph:
    """`left` hops are not drawn: there are too many."""

    node: str
    boxes: dict[Key, Box]
    edges: list[Edge]
    left: int


def of(diagnosis: Diagnosis, node: str) -> Graph:
    """The hops of a node, and those with which its queries go on from other nodes."""
    hops = _way(diagnosis, node)
    kept = {hop["id"] for hop in sorted(hops, key=lambda hop: -_WORST.index(hop["state"]))[:MOST]}
    drawn = [hop for hop in hops if hop["id"] in kept]
    places = _Places(diagnosis, drawn)
    incidents = {verdict["hop"]: number for number, verdict in reversed(list(enumerate(diagnosis["verdicts"], 1)))}
    edges: dict[tuple[Key, Key, bool], Edge] = {}
    for hop in drawn:
        end = places.end(hop)
        start = places.start(hop)
        direct = hop["stage"] == "pod to endpoint" and start[0] == "service"
        edge = edges.setdefault((start, end, direct), Edge(start, end, direct))
        edge.hops.append(hop)
        if hop["id"] in incidents:
            edge.incidents.append(incidents[hop["id"]])
    return Graph(node, places.boxes, list(edges.values()), len(hops) - len(drawn))


def _way(diagnosis: Diagnosis, node: str) -> list[Hop]:
    own = [hop for hop in diagnosis["hops"] if hop["node"] == node]
    endpoints = {hop["destination"] for hop in own if hop["stage"] == "pod to endpoint"}
    further = [
        hop
        for hop in diagnosis["hops"]
        if hop["stage"] == "endpoint to upstream" and hop["node"] != node and _address(hop) in endpoints
    ]
    owners = {_owner(diagnosis, hop) for hop in [*own, *further] if hop["stage"] == "endpoint to upstream"} - {node}
    last = [hop for hop in diagnosis["hops"] if hop["stage"] == "dnsmasq to upstream" and hop["node"] in owners]
    return [*own, *further, *last]


def _address(hop: Hop) -> str:
    """The address of the pod that asked."""
    return hop["source"].removeprefix("pod ")


def _owner(diagnosis: Diagnosis, hop: Hop) -> str:
    """The node that has the destination, "" where none of the fleet has."""
    owner = hop["owner"].partition("/")[0]
    return owner if owner in diagnosis["nodes"] else ""


class _Places:
    """Which box a hop starts from, and which it leads to."""

    def __init__(self, diagnosis: Diagnosis, hops: Iterable[Hop]) -> None:
        self.boxes: dict[Key, Box] = {}
        self._owner = {hop["id"]: _owner(diagnosis, hop) for hop in hops}
        self._served = {
            (hop["destination"], self._owner[hop["id"]])
            for hop in hops
            if hop["stage"] in ("host to dnsmasq", "endpoint to upstream") and self._owner[hop["id"]]
        }
        self._coredns = {hop["destination"] for hop in hops if hop["stage"] == "pod to endpoint"}
        self._coredns |= {_address(hop) for hop in hops if hop["stage"] == "endpoint to upstream"}
        self._services: dict[str, Key] = {}
        self._pods = self._grouped(hops)

    def _grouped(self, hops: Iterable[Hop]) -> dict[tuple[str, str], list[str]]:
        """Pods of a node that fare alike are one box."""
        fares: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        for hop in hops:
            if hop["stage"] in ("pod to service", "pod to endpoint"):
                fare = (hop["stage"], hop["destination"], hop["state"])
                fares.setdefault((hop["node"], hop["source"]), []).append(fare)
        alike: dict[tuple[str, tuple[tuple[str, str, str], ...]], list[str]] = {}
        for (node, source), fare_of in fares.items():
            alike.setdefault((node, tuple(sorted(fare_of))), []).append(source)
        return {(node, source): group for (node, _), group in alike.items() for source in group}

    def _box(self, kind: Kind, key: tuple[str, ...], name: str, note: str = "") -> Key:
        whole = (kind, *key)
        self.boxes.setdefault(whole, Box(whole, kind, plain.line(name, 60), plain.line(note, 60)))
        return whole

    def end(self, hop: Hop) -> Key:
        address, port, owner = hop["destination"], str(hop["port"]), self._owner[hop["id"]]
        shown = address if hop["port"] == 53 else asked_at(hop)
        if (address, owner) in self._served:
            return self._box("dnsmasq", (owner, address), shown, f"dnsmasq on {owner}")
        if address in self._coredns:
            return self._box("CoreDNS", (address,), shown, f"CoreDNS on {owner}" if owner else "CoreDNS")
        if hop["stage"] in ("endpoint to upstream", "dnsmasq to upstream"):
            return self._box("upstream", (address, port), shown, owner or "upstream")
        note = "systemd-resolved" if hop["stage"] == "host to stub" else "DNS service"
        service = self._box("service", (address, port), shown, note)
        if hop["stage"] == "pod to service":
            self._services.setdefault(hop["node"], service)
        return service

    def start(self, hop: Hop) -> Key:
        node = hop["node"]
        if hop["stage"] == "dnsmasq to upstream":
            same = [key for key, box in self.boxes.items() if box.kind == "dnsmasq" and key[1] == node]
            return same[0] if same else self._box("dnsmasq", (node, ""), "dnsmasq", node)
        if hop["stage"] == "endpoint to upstream":
            return self._box("CoreDNS", (_address(hop),), _address(hop), f"CoreDNS on {node}")
        if hop["stage"] == "pod to endpoint" and node in self._services:
            return self._services[node]
        if hop["stage"] not in ("pod to service", "pod to endpoint"):
            return self._box("client", (node, "host"), "the host itself", node)
        group = self._pods[node, hop["source"]]
        return self._box("client", (node, *group), group[0] if len(group) == 1 else f"{len(group)} pods", node)
