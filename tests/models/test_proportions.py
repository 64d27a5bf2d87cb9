"""Intervals against published values, and against chance itself."""

from __future__ import annotations

import random

import pytest

from models.proportions import Share, difference, independent


def share(lost: int, sent: int) -> Share:
    return Share(lost, sent, sent)


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("lost", "sent", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson(lost: int, sent: int, low: float, high: float) -> None:
    assert share(lost, sent).interval(0.95) == pytest.approx((low, high), abs=5e-5)


# Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10.
@pytest.mark.parametrize(
    ("second", "first", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ],
)
def test_newcombe(second: tuple[int, int], first: tuple[int, int], low: float, high: float) -> None:
    assert difference(share(*first), share(*second), 0.95) == pytest.approx((low, high), abs=5e-5)


def test_even_losses_are_worth_what_they_are_and_bursts_less() -> None:
    assert independent([100] * 10, [0] * 10) == 1000
    assert independent([100] * 10, [100] * 10) == 1000
    assert independent([100] * 10, [10] * 10) == 1000
    assert independent([100] * 10, [100] + [0] * 9) == pytest.approx(9.0)
    assert independent([], []) == 0


def test_bursts_alone_make_no_difference_between_equals() -> None:
    """Two sources that lose alike, in bursts: with the dispersion the interval keeps its promise, without it not."""
    chance = random.Random(5)
    wrong = {"with": 0, "without": 0}
    for _ in range(400):
        runs = [[sum(chance.random() < rate for _ in range(50)) for rate in _bursts(chance)] for _ in range(2)]
        for how in wrong:
            shares = [Share(sum(lost), 500, independent([50] * 10, lost) if how == "with" else 500) for lost in runs]
            low, high = difference(shares[0], shares[1], 0.95)
            wrong[how] += low > 0 or high < 0
    assert wrong["with"] <= 0.08 * 400
    assert wrong["without"] > 0.3 * 400


def _bursts(chance: random.Random) -> list[float]:
    return [chance.choice([0.02, 0.5]) for _ in range(10)]
