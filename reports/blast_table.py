"""What a load test saw: a table for people on standard error, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from probes.blast import Measured
from probes.blast_compare import Comparison, Result
from reports import plain
from reports.write import to

#: It grows when a reader of an older one would misread this one.
FORMAT = 1

_STYLE: dict[Result, str] = {
    "equal": "green",
    "pod loses more": "bold red",
    "host loses more": "bold red",
    "unknown": "magenta",
}


def show(comparisons: Sequence[Comparison], unknown: Mapping[str, str], console: Console | None = None) -> None:
    """
    Print the table: what was sent and received, replies per second, their ratio, and latencies in milliseconds.

    + unknown: nodes of which nothing was measured, and why
    """
    console = console or Console(stderr=True, highlight=False)
    seen = ("", "")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("to, from")
    for heading in ("rate", "sent", "rcvd", "pps", "ratio", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="right", no_wrap=True)
    for comparison in comparisons:
        place = (comparison["node"], comparison["destination"])
        if place != seen:
            table.add_row(Text(plain.line(" -> ".join(place)), style="bold"))
            seen = place
        for measured in (comparison["host"], comparison["pod"]):
            latency = measured["latency"]
            table.add_row(
                Text(f"  {plain.line(measured['source'], 80)}"),
                str(comparison["rate"]),
                str(measured["sent"]),
                str(measured["received"]),
                f"{measured['reply_pps']:.0f}",
                _ratio(measured),
                *(f"{value:.2f}" for value in (latency.values() if latency else ())),
            )
    if comparisons:
        console.print(table)
    for comparison in comparisons:
        if comparison["result"] != "equal":
            console.print(Text(plain.line(sentence(comparison)), style=_STYLE[comparison["result"]]))
    equal = sum(comparison["result"] == "equal" for comparison in comparisons)
    if equal:
        console.print(f"[green]host and pod lose alike in {equal} of {len(comparisons)} comparisons[/]")
    for node, why in unknown.items():
        console.print(Text(plain.line(f"{node}: unknown: {why}"), style="magenta"))
    if not comparisons and not unknown:
        console.print("[magenta]nothing was asked[/]")


def sentence(comparison: Comparison) -> str:
    """`node-0 -> 172.25.4.1 at 10/s: pod loses more: host 0.0%, pod 100.0% lost (82.4% to 100.0% more)`."""
    start = f"{comparison['node']} -> {comparison['destination']} at {comparison['rate']}/s: {comparison['result']}"
    if comparison["low"] is None or comparison["high"] is None:
        return f"{start}: {comparison['because']}"
    lost = {side: 1 - (comparison[side]["ratio"] or 0.0) for side in ("host", "pod")}
    said = f"{start}: host {lost['host']:.1%}, pod {lost['pod']:.1%} lost"
    low, high = comparison["low"], comparison["high"]
    if comparison["result"] == "equal":
        return f"{said} (a difference of more than {max(-low, high):.1%} is ruled out)"
    low, high = (low, high) if low > 0 else (-high, -low)
    words = "; ".join(_outcomes(comparison[side]) for side in ("host", "pod") if comparison[side]["outcomes"])
    return f"{said} ({low:.1%} to {high:.1%} more): {words}"


def write(
    target: str,
    comparisons: Sequence[Comparison],
    unknown: Mapping[str, str],
    started: datetime,
    finished: datetime,
) -> None:
    """Write everything as JSON, at once or not at all. OSError: it cannot be written there."""
    said = {
        "format": FORMAT,
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "comparisons": list(comparisons),
        "unknown": dict(unknown),
    }
    to(target, json.dumps(said, indent=2) + "\n")


def _ratio(measured: Measured) -> Text:
    if measured["unknown"] or measured["ratio"] is None:
        return Text("unknown", style="magenta")
    style = "green" if measured["received"] == measured["sent"] else "bold red"
    return Text(f"{measured['ratio']:.2%}", style=style)


def _outcomes(measured: Measured) -> str:
    return f"{measured['source']}: " + ", ".join(f"{times} {what}" for what, times in measured["outcomes"].items())
