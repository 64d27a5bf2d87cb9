"""Whether two shares of lost questions differ: host against pod."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist


@dataclass(frozen=True)
class Share:
    """`lost` of `sent` questions, worth as much as `independent` ones that share no fate (at most `sent`)."""

    lost: int
    sent: int
    independent: float

    @property
    def value(self) -> float:
        """0 to 1; ZeroDivisionError where nothing was sent."""
        return self.lost / self.sent

    def interval(self, confidence: float) -> tuple[float, float]:
        """Wilson's score interval, which holds for small numbers and at 0% and 100% (E. B. Wilson, 1927)."""
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        n, p = self.independent, self.value
        middle = p + z * z / (2 * n)
        half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        whole = 1 + z * z / n
        return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def difference(first: Share, second: Share, confidence: float) -> tuple[float, float]:
    """The interval of second minus first: Newcombe's hybrid score (R. G. Newcombe, 1998, method 10)."""
    low1, high1 = first.interval(confidence)
    low2, high2 = second.interval(confidence)
    p1, p2 = first.value, second.value
    low = p2 - p1 - sqrt((p2 - low2) ** 2 + (high1 - p1) ** 2)
    high = p2 - p1 + sqrt((high2 - p2) ** 2 + (p1 - low1) ** 2)
    return max(-1.0, low), min(1.0, high)


def independent(sent: Sequence[int], lost: Sequence[int]) -> float:
    """How many independent questions the slices of a run are worth: `sent` over Pearson's dispersion, if that is > 1.

    Losses under load come in bursts (a full socket buffer). As if each were a coin of its own, their proportion would
    look more certain than it is, and a difference would be seen where there is none.
    """
    total, share = sum(sent), sum(lost) / max(1, sum(sent))
    if not 0 < share < 1:
        return float(total)
    slices = [(n, x) for n, x in zip(sent, lost, strict=True) if n]
    if len(slices) < 2:
        return float(total)
    chi = sum((x - n * share) ** 2 / (n * share * (1 - share)) for n, x in slices)
    return total / max(1.0, chi / (len(slices) - 1))
