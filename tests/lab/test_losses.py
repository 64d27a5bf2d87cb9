"""Faults that lose a share of the questions: each is seen to lose some, and none afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import baseline
from lab.api import Lab
from lab.faults import FAULTS

pytestmark = pytest.mark.lab

NODE = "node-0"
LOSSES = [name for name in FAULTS if "loss-" in name]


def rules(lab: Lab) -> str:
    return lab.node(NODE).run(["nft", "list", "ruleset"]).stdout


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_fires_and_heals(lab: Lab, name: str) -> None:
    root = Path(lab.record.root)
    before = rules(lab)
    try:
        assert "is live" in lab.inject(name, NODE)
        assert baseline.changes(NODE, root) == ["etc/nftables.d", "etc/nftables.d/60-loss.nft"]
        assert f"< {name.rpartition('-')[2]} " in rules(lab)
    finally:
        lab.heal(NODE)
    assert baseline.changes(NODE, root) == []
    assert rules(lab) == before
    asked = [lab.node(NODE).pod("coredns").ask(lab.node(NODE).plan.vip) for _ in range(20)]
    assert all(answer.good for answer in asked)
