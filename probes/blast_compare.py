"""Host against pod: whether one of them loses more at the same address, at the same rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from models import proportions
from probes.blast import Load, Measured

#: Of all comparisons of one ramp together: each is made with a share of what is left to chance (Bonferroni).
CONFIDENCE = 0.95

Result = Literal["equal", "pod loses more", "host loses more", "unknown"]


class Comparison(TypedDict):
    """One rate at one address.

    + low, high: the confidence interval of the pod's share lost minus the host's, None where there is none
    + because: the reason of an "unknown"; "" otherwise
    """

    node: str
    destination: str
    name: str
    rate: int
    seconds: float
    host: Measured
    pod: Measured
    low: float | None
    high: float | None
    result: Result
    because: str


def compare(node: str, load: Load, measured: Sequence[Measured], comparisons: int) -> Comparison:
    """
    Judge one rate.

    + load: what was asked, of either of the sources; measured: of the host, and of the pod
    + comparisons: how many are made of one address, over all its rates
    """
    host, pod = measured
    low: float | None = None
    high: float | None = None
    result: Result = "unknown"
    because = "; ".join(f"{one['source']}: {one['unknown']}" for one in (host, pod) if one["unknown"])
    if not because and not host["received"] and not pod["received"]:
        because = "neither of them was answered"
    elif not because:
        confidence = 1 - (1 - CONFIDENCE) / comparisons
        low, high = proportions.difference(_share(host), _share(pod), confidence)
        result = "pod loses more" if low > 0 else "host loses more" if high < 0 else "equal"
    return {
        "node": node,
        "destination": load["question"]["destination"],
        "name": load["question"]["name"],
        "rate": load["rate"],
        "seconds": load["seconds"],
        "host": host,
        "pod": pod,
        "low": low,
        "high": high,
        "result": result,
        "because": because,
    }


def overloaded(comparison: Comparison) -> bool:
    """Whether a higher rate would only do harm: more than half of what one of them sent was lost, or it is unknown."""
    return comparison["result"] == "unknown" or any(
        one["received"] * 2 < one["sent"] for one in (comparison["host"], comparison["pod"])
    )


def questions(comparison: Comparison) -> int:
    """How many were sent."""
    return comparison["host"]["sent"] + comparison["pod"]["sent"]


def _share(measured: Measured) -> proportions.Share:
    return proportions.Share(measured["sent"] - measured["received"], measured["sent"], measured["independent"])
