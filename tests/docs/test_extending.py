"""docs/examples, as docs/extending.md says: copied to its places, made known, tested by its own tests, at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import blocks


@pytest.mark.lab
def test_a_check_and_an_operation_of_ones_own(folder: Path) -> None:
    assert blocks.run("extending.md", folder) == 6
