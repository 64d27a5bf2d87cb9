"""What has been played, kept in docs/faults.json after each point, from which docs/faults.md is made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from bench.faults.case import Fault
from bench.faults.play import Played

_DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
KEPT = _DOCS / "faults.json"


class Point(TypedDict):
    """A fault that was played: see `bench.faults.play.Played`.

    + date: when; load: this machine's load average then, None where that was not noted
    """

    scenario: str
    name: str
    kind: str
    point: str
    outcomes: dict[str, str]
    code: int
    worse: list[str]
    lost: dict[str, int]
    asked: int
    again: bool | None
    seconds: float
    date: str
    load: float | None


def key(fault: Fault) -> str:
    """What names a fault in the file."""
    return f"{fault.scenario.name}: {fault.name}: {fault.point}"


def point(fault: Fault, played: Played) -> Point:
    """What is kept of it."""
    return Point(
        scenario=fault.scenario.name,
        name=fault.name,
        kind=fault.kind,
        point=fault.point,
        outcomes=played.outcomes,
        code=played.code,
        worse=played.worse,
        lost=played.lost,
        asked=played.asked,
        again=played.again,
        seconds=played.seconds,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        load=round(os.getloadavg()[0], 1),
    )


def load(path: Path = KEPT) -> dict[str, Point]:
    """What has been played so far."""
    found: dict[str, Point] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def save(played: Mapping[str, Point]) -> None:
    """Write the file."""
    KEPT.write_text(json.dumps(dict(sorted(played.items())), indent=1) + "\n")
