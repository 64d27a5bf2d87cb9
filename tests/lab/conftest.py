"""The lab of these tests: the one that is up, healed; or one that is made for the session and taken down after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import lifecycle, plan
from lab.api import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    made = not lifecycle.status()["up"]
    if made:
        lifecycle.up(plan.MIN_NODES)
    running = Lab.attach()
    running.heal()
    yield running
    if made:
        lifecycle.down()
    else:
        running.heal()
