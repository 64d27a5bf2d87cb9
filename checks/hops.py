"""What was seen of each step of a query's path, as the hops of a diagnosis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal

from checks.diagnosis import STAGES, Hop, Loss
from models import loss
from models.path import Step
from probes.count import lost, sent, unknown
from probes.hops import Key, Seen, left_open, loses, lost_once
from probes.probe import Result


def hops(steps: Iterable[Step], seen: Seen, smallest_loss: float) -> list[Hop]:
    """
    One hop per step that was asked, in the order of the stages.

    + seen: by step, protocol and name the results of each round
    + smallest_loss: the share of lost tries that matters; a tenth of it is taken for stray tries
    """
    asked: dict[str, dict[Key, Sequence[Result]]] = {}
    for key, results in seen.items():
        if results:
            asked.setdefault(key[0], {})[key] = results
    found = [_hop(step, asked.get(step.id, {}), smallest_loss) for step in steps if step.questions]
    return sorted(found, key=lambda hop: (STAGES.index(hop["stage"]), hop["node"]))


def _hop(step: Step, mine: Seen, smallest_loss: float) -> Hop:
    asked = {key: results for key, results in mine.items() if key[1] != "icmp"}
    # What a pod has lost once that has ended since, nobody can see again.
    ended = any(map(left_open, asked.values()))
    losing = {
        key for key, results in mine.items() if loses(results, smallest_loss) and not (ended and lost_once(results))
    }
    state: Literal["ok", "loses", "unknown"] = "ok"
    if losing & asked.keys():
        state = "loses"
    elif ended or not asked or any(not sum(map(sent, results)) for results in asked.values()):
        state = "unknown"
    return {
        "id": step.id,
        "stage": step.stage,
        "node": step.node,
        "source": f"pod {step.source}" if step.source else "host",
        "destination": step.destination,
        "port": step.port,
        "owner": step.owner,
        "because": list(step.because),
        "losses": [_loss(key, results, key in losing) for key, results in mine.items()],
        "state": state,
        "needs": {name: list(behind) for name, behind in step.needs.items()},
    }


def _loss(key: Key, results: Sequence[Result], losing: bool) -> Loss:
    _, protocol, name = key
    tries = [attempt for result in results for attempt in result["tries"]]
    low, high = loss.interval(sum(map(lost, results)), sum(map(sent, results)))
    times = [one["rtt_ms"] for one in tries if one["outcome"] == "answered" and one["rtt_ms"] is not None]
    return {
        "protocol": protocol,
        "name": name,
        "sent": sum(map(sent, results)),
        "lost": sum(map(lost, results)),
        "unknown": sum(map(unknown, results)),
        "low": round(low, 4),
        "high": round(high, 4),
        "outcomes": dict(Counter(one["outcome"] for one in tries).most_common()),
        "median_ms": round(median(times), 3) if times else None,
        "slowest_ms": max(times, default=None),
        "loses": losing,
    }
