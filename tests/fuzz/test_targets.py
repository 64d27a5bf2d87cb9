"""Every fuzz target for a moment, always in the same way; `make fuzz` runs them for long."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from facts import history, snapshot
from facts.reading import Reading
from tests.fuzz.targets import _OTHERS, TARGETS, lines, mutated

#: No reader takes that long for a few kilobytes, however busy the machine: it hangs.
HANGS = 120


@contextmanager
def ending() -> Iterator[None]:
    """Fail where it does not end."""

    def late(*_: object) -> None:
        raise AssertionError(f"a reader is still busy after {HANGS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_read(name: str) -> None:
    with ending():
        for seed in TARGETS[name].seeds:
            TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_broken_is_refused_and_never_more(name: str) -> None:
    target = TARGETS[name]

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=25,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(some.randoms(use_true_random=False), some.sampled_from(target.seeds))
    def bent(dice: random.Random, seed: bytes) -> None:
        target.run(mutated(seed, dice))

    @settings(derandomize=True, database=None, deadline=None, max_examples=25)
    @given(some.binary(max_size=2000))
    def anything(data: bytes) -> None:
        target.run(data)

    with ending():
        bent()
        anything()


def _seeded() -> dict[str, Any]:
    facts = {f"fact-{name}": fact for name, fact in snapshot.FACTS.items()}
    facts |= {f"history-{name}": fact for name, fact in history.FACTS.items()}
    return facts | {f"fact-{name}": fact for name, (fact, _) in _OTHERS.items()}


@pytest.mark.parametrize("name", _seeded())
def test_every_fact_has_a_seed_that_it_understands(name: str) -> None:
    """Else its fuzzing would stop at the first line."""
    fact = _seeded()[name]
    read = [fact.reading({"output": lines(seed), "errors": [], "code": 0}) for seed in TARGETS[name].seeds]
    assert "value" in [reading["state"] for reading in read], read


def test_a_target_can_fail() -> None:
    from tests.fuzz import targets

    with pytest.raises(AssertionError, match="is not a value of type str"):
        targets.good({"state": "value", "value": "", "detail": 7}, Reading[str])
    with pytest.raises(ValueError, match="not JSON compliant"):
        targets.good({"state": "value", "value": float("nan"), "detail": ""}, Reading[float])
