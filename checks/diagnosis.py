"""What a whole diagnosis says. Plain JSON: the reports render it, a bundle keeps it, a later run gives the same."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, get_args

from checks.finding import Finding
from facts.addresses import endpoint
from models.path import Stage as Stage

#: The parts of a query's way, in its order.
STAGES: tuple[Stage, ...] = get_args(Stage)


class Loss(TypedDict):
    """What one hop loses of one protocol and name.

    + protocol: "udp", "tcp" or "icmp"; name: what was asked for, "" for ICMP
    + sent, lost, unknown: questions; unknown ones (not sent) are not among `sent`
    + low, high: the 95% confidence interval of the share lost, 0 to 1
    + outcomes: how many tries ended how, in the words of `probes.probe.Outcome`
    + median_ms, slowest_ms: of the answers, None without one
    + loses: whether that is a loss, and not a stray try: it was lost again when it was asked again
    """

    protocol: str
    name: str
    sent: int
    lost: int
    unknown: int
    low: float
    high: float
    outcomes: dict[str, int]
    median_ms: float | None
    slowest_ms: float | None
    loses: NotRequired[bool]


class Hop(TypedDict):
    """One step of a query's way, asked from where its packets really leave.

    + id: unique, and the same in every run: "node-0/pod 172.26.2.145/10.32.0.10:53"
    + node: where it was asked from; source: "host" or "pod 172.26.2.145"
    + destination: an address; owner: the node (and pod) that has it, "" where none of the fleet has
    + because: what tells that this is the way: "nameserver 10.32.0.10 in its resolv.conf"
    + state: "ok", "loses" or "unknown"
    + needs: by the name asked for, the ids of the hops that the question then goes on to; none where the destination
      answers it itself
    + why: of an unknown hop, what seems to keep its pod from an answer on purpose (`checks.kept_out`)
    """

    id: str
    stage: Stage
    node: str
    source: str
    destination: str
    port: int
    owner: str
    because: list[str]
    losses: list[Loss]
    state: Literal["ok", "loses", "unknown"]
    needs: NotRequired[dict[str, list[str]]]
    why: NotRequired[str]


class RuledOut(TypedDict):
    """A cause that it is not, and what shows it."""

    check: str
    sentence: str


class Verdict(TypedDict):
    """One incident: its root cause, and everything that follows from it.

    + check: the root cause's check id; "" where only the hop is known
    + hop: id of the first hop that loses because of it, "" where none does (yet)
    + sentence: "pod -> CoreDNS ok, CoreDNS -> 172.25.4.1 lost 100%: except-interface=cilium_*, /etc/...:14"
    + culprits: nodes to repair; affected: nodes and pods whose queries suffer; consequence: what they see
    + explained: check ids and nodes of the findings that are consequences: "IPVS-001 node-0"
    + certainty: "certain" where the evidence shows the very rule or line, "likely" where it only fits
    + operation: what fixes it, "" where nothing of ours does; fix: the command to type, what else is to
      be said behind a "#", or advice in one sentence
    """

    check: str
    title: str
    hop: str
    sentence: str
    culprits: list[str]
    affected: list[str]
    consequence: str
    evidence: list[str]
    explained: list[str]
    ruled_out: list[RuledOut]
    certainty: Literal["certain", "likely"]
    operation: str
    fix: str


class Event(TypedDict):
    """Something that happened on a node. `time`: UTC, ISO 8601; `source`: the log, file or unit that tells."""

    time: str
    node: str
    what: str
    source: str


class Diagnosis(TypedDict):
    """All of it.

    + format: 1; it grows when a reader of an older one would misread this one
    + started, finished: UTC, ISO 8601
    + nodes: every node of the run, and why one could not be read ("" for those that were)
    + unseen: what could not be looked at, in sentences: "no kubectl: EndpointSlices were not compared"
    + before: the hops of an earlier run to compare with, in a post-mortem
    """

    format: int
    started: str
    finished: str
    nodes: dict[str, str]
    hops: list[Hop]
    findings: list[Finding]
    verdicts: list[Verdict]
    timeline: list[Event]
    unseen: list[str]
    before: NotRequired[list[Hop]]


def doubtful(hop: Hop) -> bool:
    """Whether a hop could not be asked. One whose pod seems to be kept out is told in `unseen`, and no more."""
    return hop["state"] == "unknown" and "why" not in hop


def asked_at(hop: Hop) -> str:
    """`10.10.0.21:53`, `[fd00::11]:53`: where a hop's questions go."""
    return endpoint(hop["destination"], hop["port"])
