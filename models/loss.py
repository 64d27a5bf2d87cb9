"""How sure a share of lost tries is. Exact binomial statistics, for a hop's few hundred tries and a fleet's million."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

#: What an interval leaves out, both ends together.
ALPHA = 0.05


@lru_cache(maxsize=4096)
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

    def likely(one: int) -> float:
        return math.exp(_ways(sent, one) + _ways(other_sent, total - one) - _ways(both, total))

    # Equal tables differ in the last digits.
    seen = likely(lost) * (1 + 1e-7)
    tables = map(likely, range(max(0, total - other_sent), min(sent, total) + 1))
    return math.fsum(table for table in tables if table <= seen) < ALPHA


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


def _ways(of: int, chosen: int) -> float:
    """The logarithm of the number of ways to choose: a fleet's tries have more of them than a float can hold."""
    return math.lgamma(of + 1) - math.lgamma(chosen + 1) - math.lgamma(of - chosen + 1)


def _at_most(lost: int, sent: int, share: float) -> float:
    """The chance of at most so many lost tries."""
    if lost < 0 or lost >= sent or share in (0.0, 1.0):
        return float(lost >= 0 and (lost >= sent or share == 0))
    if lost > sent * share:
        # The other tail: there the terms become smaller from the first one on.
        return 1 - _at_most(sent - lost - 1, sent, 1 - share)
    term = math.exp(_ways(sent, lost) + lost * math.log(share) + (sent - lost) * math.log1p(-share))
    found = term
    for k in range(lost, 0, -1):
        term *= k / (sent - k + 1) * (1 - share) / share
        if term < found * 1e-17:
            break
        found += term
    return found


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
