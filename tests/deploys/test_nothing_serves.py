"""Where no node serves DNS, verify.py says so: there is nothing to ask, and nothing is proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.simulated.running import INVENTORY, running
from deploys.cases import NOTHING_SERVES
from deploys.exits import Exit
from tests.conftest import Run


def test_nothing_to_ask_is_said(pyinfra: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running(tmp_path, 1) as fleet:
        monkeypatch.setenv("DNSMEND_FLEET", fleet.environment["DNSMEND_FLEET"])
        done = pyinfra("-y", str(INVENTORY), "deploys/verify.py", "--data", 'dns_vips=["192.0.2.1"]')
    assert done.returncode == Exit.NOT_WELL
    assert NOTHING_SERVES in done.stderr.replace("\n", " ")
