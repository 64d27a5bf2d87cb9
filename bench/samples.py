"""What was measured, kept in a file per machine and day after every run."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, order=True)
class Cell:
    """What contenders are compared in: a job on so many nodes, so many milliseconds away."""

    job: str
    nodes: int
    rtt: int


@dataclass(frozen=True)
class Sample:
    """One run. `cpu`: processor seconds of what was started on the controller; `load`: of the machine before it."""

    job: str
    nodes: int
    rtt: int
    contender: str
    seconds: float
    cpu: float
    load: float

    @property
    def cell(self) -> Cell:
        """Where it counts."""
        return Cell(self.job, self.nodes, self.rtt)


@dataclass(frozen=True)
class Count:
    """What one run of a contender does per node, on average. `execs` is None where that cannot be counted."""

    job: str
    contender: str
    connections: float
    execs: float | None
    sent: float
    received: float


@dataclass(frozen=True)
class Shares:
    """Where dnsmend's time goes in one run: seconds until the first connection, in SSH, outside SSH after that."""

    job: str
    nodes: int
    rtt: int
    starting: float
    ssh: float
    outside: float


@dataclass
class Results:
    """A file's content. `missing`: contenders that could not be measured, and why; `imports`: see `bench.imports`."""

    machine: str
    date: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    imports: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    counts: list[Count] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return RESULTS / f"{self.date}-{self.machine}.json"

    def save(self) -> None:
        """Write it, whole or not at all."""
        RESULTS.mkdir(exist_ok=True)
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(self.file)

    def cells(self) -> list[Cell]:
        """Every cell with a sample."""
        return sorted({sample.cell for sample in self.samples})

    def seconds(self, cell: Cell, contender: str) -> list[float]:
        """How long each of the contender's runs took."""
        return [one.seconds for one in self.samples if one.cell == cell and one.contender == contender]

    def ratio(self, cell: Cell, contender: str) -> float | None:
        """The contender's median over dnsmend's; None where either has no sample."""
        ours, theirs = self.seconds(cell, "dnsmend"), self.seconds(cell, contender)
        return median(theirs) / median(ours) if ours and theirs else None

    def forget(self, cells: Iterable[Cell], contenders: Iterable[str]) -> None:
        """Drop the samples of these contenders in these cells."""
        these, names = set(cells), set(contenders)
        self.samples = [one for one in self.samples if one.cell not in these or one.contender not in names]


def today() -> Results:
    """What was measured on this machine today, so far."""
    fresh = Results(_machine(), datetime.now(UTC).date().isoformat())
    return load(fresh.file) if fresh.file.is_file() else fresh


def earlier(now: Results) -> Results | None:
    """What was measured on the same machine before that day, last."""
    found = sorted(file for file in RESULTS.glob(f"*-{now.machine}.json") if file.name < now.file.name)
    return load(found[-1]) if found else None


def load(file: Path) -> Results:
    """The content of a file that `Results.save` wrote."""
    kept: dict[str, Any] = json.loads(file.read_text())
    rows = {"samples": Sample, "counts": Count, "shares": Shares}
    for name, kind in rows.items():
        kept[name] = [kind(**one) for one in kept.get(name, [])]
    return Results(**{each.name: kept[each.name] for each in fields(Results) if each.name in kept})


def _machine() -> str:
    """Names the machine by its processors, as a part of a file name."""
    text = Path("/proc/cpuinfo").read_text()
    models = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE) or [platform.machine()]
    return re.sub(r"[^a-z0-9]+", "-", f"{models[0]} {len(models)} cpus".lower()).strip("-")
