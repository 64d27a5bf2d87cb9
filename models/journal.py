"""The journal that a run leaves on its controller: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def entries(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The journal's entries; a line that was cut off by the end of its controller is passed over."""
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def waves(journal: Iterable[dict[str, Any]]) -> list[list[str]]:
    """The run's waves, as names of nodes, in the order in which they were changed; empty where it does not say."""
    for entry in journal:
        listed = entry.get("waves")
        if entry.get("event") == "began" and isinstance(listed, list):
            return [[str(name) for name in wave] for wave in listed if isinstance(wave, list)]
    return []


def changed(journal: Iterable[dict[str, Any]]) -> list[str]:
    """The nodes on which the run has changed something, or has begun to, in the order of that."""
    events = ("changed", "failed")
    return list(dict.fromkeys(str(entry.get("node", "")) for entry in journal if entry.get("event") in events))
