"""The tutorials at the keyboard. That of IPVS is not run here: its steps are those of `make demo-ipvs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import blocks


@pytest.mark.lab
def test_dnsmasq(folder: Path) -> None:
    assert blocks.run("tutorial-dnsmasq.md", folder) == 15
