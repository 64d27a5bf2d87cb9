"""docs/quickstart.md, from its first block to its last one; nodes of one's own are the lab's."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import plan
from lab.api import Lab
from tests.docs import blocks


@pytest.mark.lab
def test_the_quick_start(healed: Lab, folder: Path, home: Path) -> None:
    nodes = {f"192.0.2.1{number}": healed.node(f"node-{number}").plan.management for number in range(plan.MIN_NODES)}
    environment = {"HOME": str(home), "PATH": str(home / "bin")}
    assert blocks.run("quickstart.md", folder, environment, stand_in=nodes) == 15
