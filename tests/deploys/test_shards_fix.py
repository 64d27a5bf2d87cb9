"""A fix from several machines is one run: what is done once is done once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deploys import rollout, shards_fix
from operations.wave import waves

NODES = [f"node-{number}" for number in range(7)]
PARTS = [NODES[:3], NODES[3:5], NODES[5:]]


@pytest.mark.parametrize(
    ("changing", "last"),
    [(NODES, ["node-5", "node-6"]), (NODES[:5], ["node-3", "node-4"]), (NODES[:1], ["node-0"])],
    ids=["all", "none-of-the-last-part", "the-canary-alone"],
)
def test_coredns_starts_afresh_after_the_last_part_of_the_last_wave(
    monkeypatch: pytest.MonkeyPatch, changing: list[str], last: list[str]
) -> None:
    asked: list[tuple[list[str], list[str]]] = []

    def ask(shards: Any, nodes: list[str], data: list[str], *_: object) -> dict[str, Any]:
        asked.append((nodes, data))
        return {"nodes": nodes, "said": None, "log": "", "code": 0}

    rest = [name for name in NODES if name not in changing]
    said = {"fleet": dict.fromkeys(NODES), "endpoints": {}, "policies": {name: {} for name in NODES}}
    answers = [{"nodes": part, "said": said, "log": "", "code": 0} for part in PARTS]
    shards: Any = SimpleNamespace(parts=PARTS, each=lambda what: answers)
    changes = {name: name in changing for name in NODES}
    monkeypatch.setattr(rollout, "needed", lambda *_: (changes, []))
    monkeypatch.setattr(rollout, "in_waves", lambda *_: tuple(waves(changing, rest, 1, len(NODES))))
    monkeypatch.setattr(rollout, "too_slow", lambda *_: "")
    monkeypatch.setattr(shards_fix, "_ask", ask)
    monkeypatch.setattr("deploys.policy.of_values", lambda values: values)
    assert shards_fix.fix(shards)
    assert sorted(name for nodes, _ in asked for name in nodes) == sorted(changing)
    assert asked[-1] == (last, []) and all(data == ["coredns_rollout=false"] for _, data in asked[:-1])
