"""What has been counted of the confusion matrix, kept in a file, and the table made from it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_DOCS = Path(__file__).resolve().parent.parent / "docs"
COUNTED = _DOCS / "confusion.json"
TABLE = _DOCS / "confusion.md"

_HEAD = """\
# Confusion matrix

Each fault of the lab, injected and diagnosed as a user would (`pyinfra -y inventory deploys/diagnose.py`), on each node
in turn. A run is right when there is the right verdict on the right node for each fault, and no other one: see
[bench/expected.py](../bench/expected.py). Made by `python -m bench.confusion`; `--help` says more. A is the node with
the (first) fault, B the other one. What needs a kube-proxy is injected into the Kubernetes lab, whose emulated machines
take half a minute to be diagnosed: there each injection is diagnosed several times (`--each`), and nodes are asked
slowly ([inventories/lab.py](../inventories/lab.py)). Where other work takes a machine's processors, questions are lost
in earnest: a row with a run that named such losses was made again from its beginning.

| fault | right | runs | what was said |
|---|---|---|---|
"""


@dataclass
class Count:
    """What a row's runs have said."""

    runs: int = 0
    right: int = 0
    said: Counter[str] = field(default_factory=Counter)


def load() -> dict[str, Count]:
    """What has been counted so far, by row."""
    if not COUNTED.is_file():
        return {}
    kept = json.loads(COUNTED.read_text())
    return {name: Count(one["runs"], one["right"], Counter(one["said"])) for name, one in kept.items()}


def save(counted: dict[str, Count]) -> None:
    """Write the counts, and the table of them."""
    kept = {
        name: {"runs": one.runs, "right": one.right, "said": dict(one.said)}
        for name, one in sorted(counted.items())
        if one.runs
    }
    COUNTED.write_text(json.dumps(kept, indent=1) + "\n")
    lines = [
        f"| {name} | {one.right} | {one.runs} | {_said(one)} |\n" for name, one in sorted(counted.items()) if one.runs
    ]
    right, runs = sum(one.right for one in counted.values()), sum(one.runs for one in counted.values())
    TABLE.write_text(f"{_HEAD}{''.join(lines)}\n{right} of {runs} runs were right.\n")


def _said(one: Count) -> str:
    return "; ".join(words if times == one.runs else f"{words} ({times})" for words, times in one.said.most_common())
