"""The table of verify.py can be read in any terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from probes.probe import Result, pod, probe
from reports import probe_table

NAME = "kubernetes.default.svc.cluster.local"


def answered(destination: str, name: str, outcome: str = "answered") -> Result:
    asked = probe(destination, name, source=pod("pod 172.26.2.145", 7), tries=20, deadline_s=2.0)
    given = {"outcome": outcome, "rtt_ms": 1.0, "rcode": "NOERROR", "answers": [], "detail": ""}
    return {"probe": asked, "carrier": "python3", "tries": [given] * 20}  # type: ignore[list-item]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_counts_are_never_cut(width: int) -> None:
    out = io.StringIO()
    results = {"node-0": [answered("172.25.4.1", "version.bind"), answered("10.32.0.10", NAME)]}
    probe_table.show(results, Console(file=out, width=width, highlight=False))
    text = out.getvalue()
    assert text.count("20/20") == 2
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    # Nothing is lost of a name that goes on in the next line.
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert NAME in "".join(cell for row in cells for cell in row if re.fullmatch(r"[a-z.]+", cell))


def test_what_could_not_be_sent_is_no_loss() -> None:
    out = io.StringIO()
    results = {"node-0": [answered("172.25.4.1", NAME, "not sent"), answered("10.32.0.10", NAME, "timeout")]}
    probe_table.show(results, Console(file=out, width=120, highlight=False))
    rows = [line for line in out.getvalue().splitlines() if "node-0" in line]
    assert ["not sent" in row for row in rows] == [True, False]
    assert ["0/20" in row for row in rows] == [False, True]
