"""What a probe's tries add up to. `unknown` is kept apart from `lost`: what was not sent was not lost."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import NamedTuple

from facts.addresses import endpoint
from probes.probe import Result


class Rtt(NamedTuple):
    """Round-trip times of the answered tries, in milliseconds."""

    minimum: float
    median: float
    maximum: float


def sent(result: Result) -> int:
    """Tries that left the source."""
    return len(result["tries"]) - unknown(result)


def received(result: Result) -> int:
    """Tries that were answered."""
    return [attempt["outcome"] for attempt in result["tries"]].count("answered")


def lost(result: Result) -> int:
    """Tries that were sent and not answered, whatever came instead."""
    return sent(result) - received(result)


def unknown(result: Result) -> int:
    """Tries that could not be sent."""
    return [attempt["outcome"] for attempt in result["tries"]].count("not sent")


def rtt(result: Result) -> Rtt | None:
    """None without a measured answer."""
    times = [
        attempt["rtt_ms"]
        for attempt in result["tries"]
        if attempt["outcome"] == "answered" and attempt["rtt_ms"] is not None
    ]
    return Rtt(min(times), round(median(times), 3), max(times)) if times else None


def summary(result: Result) -> str:
    """`answered 20/20`, `answered 9/20, timeout 11`, `not sent 20/20: no such process`: of all tries."""
    total = len(result["tries"])
    outcomes = Counter(attempt["outcome"] for attempt in result["tries"])
    answered = outcomes.pop("answered", 0)
    if outcomes["not sent"] == total:
        detail = next((attempt["detail"] for attempt in result["tries"] if attempt["detail"]), "")
        return f"not sent {total}/{total}" + (f": {detail}" if detail else "")
    rest = "".join(f", {outcome} {count}" for outcome, count in outcomes.most_common())
    return f"answered {answered}/{total}{rest}"


def asked(result: Result) -> str:
    """`host -> 172.25.4.1:53 UDP zju.edu.cn A`: the question in one line."""
    probe = result["probe"]
    start = f"{probe['source']['name']} -> "
    if probe["protocol"] == "icmp":
        return f"{start}{probe['destination']} ICMP"
    kind = probe["rdtype"] if probe["rdclass"] == "IN" else f"{probe['rdclass']} {probe['rdtype']}"
    return f"{start}{endpoint(probe['destination'], probe['port'])} {probe['protocol'].upper()} {probe['name']} {kind}"
