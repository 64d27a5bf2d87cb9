"""Shares and how sure they are: against values from the literature, and against what they promise."""

from __future__ import annotations

import math

import pytest

from models import loss


@pytest.mark.parametrize(
    ("lost", "sent", "low", "high"),
    [
        # Clopper and Pearson's, as in R's binom.test.
        (0, 20, 0.0, 0.1684),
        (20, 20, 0.8316, 1.0),
        (1, 20, 0.0013, 0.2487),
        (10, 20, 0.2720, 0.7280),
        (5, 100, 0.0164, 0.1128),
        (0, 59, 0.0, 0.0606),
        (500, 1000, 0.4685, 0.5315),
        (0, 0, 0.0, 1.0),
    ],
)
def test_intervals(lost: int, sent: int, low: float, high: float) -> None:
    assert loss.interval(lost, sent) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sent", [5, 20, 90])
def test_an_interval_holds_the_share_as_often_as_it_says(share: float, sent: int) -> None:
    held = sum(
        math.comb(sent, lost) * share**lost * (1 - share) ** (sent - lost)
        for lost in range(sent + 1)
        if (found := loss.interval(lost, sent)) and found[0] <= share <= found[1]
    )
    assert held >= 0.95


@pytest.mark.parametrize(("share", "tries"), [(0.05, 59), (0.2, 14), (0.5, 5), (1, 1)])
def test_tries_to_see_a_loss(share: float, tries: int) -> None:
    assert loss.tries_to_see(share) == tries
    assert (1 - share) ** tries <= 0.05


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="21 of 20"):
        loss.interval(21, 20)
    with pytest.raises(ValueError, match="cannot be seen"):
        loss.tries_to_see(0)


@pytest.mark.parametrize(
    ("one", "other", "different"),
    [
        ((1, 20), (0, 20), False),
        ((5, 90), (0, 90), False),
        ((6, 90), (0, 90), True),
        ((10, 20), (0, 20), True),
        ((45, 90), (18, 90), True),
        ((20, 20), (20, 20), False),
        ((0, 20), (0, 0), False),
    ],
)
def test_whether_two_shares_differ(one: tuple[int, int], other: tuple[int, int], different: bool) -> None:
    assert loss.differ(*one, *other) is different
    assert loss.differ(*other, *one) is different


def test_a_fleets_tries_are_counted_as_well() -> None:
    """A thousand nodes are asked a million times: more ways to lose some than a float can hold."""
    assert loss.differ(5_000, 5_000, 100, 800_000)
    assert not loss.differ(100_000, 1_000_000, 100_500, 1_000_000)
    assert [round(end, 5) for end in loss.interval(5_000, 100_000)] == [0.04866, 0.05137]
    assert [round(end, 3) for end in loss.interval(500_000, 1_000_000)] == [0.499, 0.501]


def test_sentences() -> None:
    assert loss.told(0, 90) == "none of 90 lost, surely under 4.0%"
    assert loss.told(20, 20) == "all of 20 lost, surely over 83%"
    assert loss.told(13, 270) == "13 of 270 lost: 4.8%, surely 2.6% to 8.1%"
    assert loss.told(0, 0) == "none sent"
