"""How sure a share of lost tries is. Exact binomial statistics, for the few hundred tries that a hop is asked."""

from __future__ import annotations

import math
from collections.abc import Callable

#: What an interval leaves out, both ends together.
ALPHA = 0.05


def interval(lost: int, sent: int) -> tuple[float, float]:
    """
    The 95% confidence interval of the share lost: Clopper and Pearson's, 0 to 1 where nothing was sent.

    Theirs and not Wilson's: it is never narrower than it says, and what matters here are few tries and shares next to 0
    and 1, where Wilson's holds the true share less often than in 95 of 100 cases. It costs a few tries more.

    + lost: tries that were lost, of `sent` ones. Raises ValueError for more lost than sent
    """
    if not 0 <= lost <= sent:
        raise ValueError(f"{lost} of {sent} cannot be lost")
    low = _root(lambda share: 1 - _at_most(lost - 1, sent, share)) if lost else 0.0
    high = _root(lambda share: 1 - _at_most(lost, sent, share), 1 - ALPHA / 2) if lost < sent else 1.0
    return low, high


def tries_to_see(share: float, sure: float = 0.95) -> int:
    """
    How many tries lose at least one, `sure` of the time, where `share` is lost: 59 for 5%, 14 for 20%, 5 for 50%.

    + share: 0 < share <= 1. Raises ValueError for what cannot be seen
    """
    if not 0 < share <= 1 or not 0 < sure < 1:
        raise ValueError(f"a share of {share} cannot be seen with {sure}")
    return 1 if share == 1 else math.ceil(math.log(1 - sure) / math.log(1 - share))


def differ(lost: int, sent: int, other_lost: int, other_sent: int) -> bool:
    """Whether two shares are not the same, with 95%: Fisher's exact test, two-sided (all tables no likelier)."""
    total, both = lost + other_lost, sent + other_sent
    ways = {
        one: math.comb(sent, one) * math.comb(other_sent, total - one)
        for one in range(max(0, total - other_sent), min(sent, total) + 1)
    }
    seen = ways[lost]
    return sum(count for count in ways.values() if count <= seen) < ALPHA * math.comb(both, total)


def percent(share: float) -> str:
    """`0%`, `0.4%`, `5.2%`, `48%`, `100%`: two digits are as many as a few hundred tries can carry."""
    value = 100 * share
    return f"{value:.0f}%" if value >= 10 or value < 0.05 else f"{value:.1f}%"


def told(lost: int, sent: int) -> str:
    """`13 of 270 lost: 4.8%, surely 2.6% to 8.1%`; `none of 90 lost, surely under 4.1%`."""
    low, high = interval(lost, sent)
    if not sent:
        return "none sent"
    if not lost:
        return f"none of {sent} lost, surely under {percent(high)}"
    if lost == sent:
        return f"all of {sent} lost, surely over {percent(low)}"
    return f"{lost} of {sent} lost: {percent(lost / sent)}, surely {percent(low)} to {percent(high)}"


def _at_most(lost: int, sent: int, share: float) -> float:
    """The chance of at most so many lost tries."""
    if share in (0.0, 1.0):
        return float(share == 0 or lost >= sent)
    return math.fsum(
        math.exp(
            math.lgamma(sent + 1)
            - math.lgamma(k + 1)
            - math.lgamma(sent - k + 1)
            + k * math.log(share)
            + (sent - k) * math.log1p(-share)
        )
        for k in range(lost + 1)
    )


def _root(rising: Callable[[float], float], target: float = ALPHA / 2) -> float:
    """Where a rising function of a share meets the target, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if rising(middle) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
