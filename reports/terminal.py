"""The report for people, on standard error: the fleet as a matrix, then what is wrong, why, and what fixes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from checks.diagnosis import Diagnosis, Stage, Verdict
from checks.finding import Finding, Status
from reports import plain
from reports.matrix import (
    Cell,
    Matrix,
    Row,
    counts,
    first_losing,
    headline,
    hop_name,
    interval,
    matrix,
    remaining,
    same_words,
    spoken,
    worst,
)

_STYLE = {
    Status.PASS: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.SKIP: "dim",
    Status.UNKNOWN: "magenta",
}
_CELL = {"ok": "green", "loses": "bold red", "unknown": "magenta", "-": "dim"}
#: Two lines each, so that seven of them fit on a usual terminal.
_HEADING: dict[Stage, str] = {
    "pod to service": "pod to\nservice",
    "pod to endpoint": "pod to\nendpoint",
    "endpoint to upstream": "endpoint to\nupstream",
    "host to service": "host to\nservice",
    "host to stub": "host to\nstub",
    "host to dnsmasq": "host to\ndnsmasq",
    "dnsmasq to upstream": "dnsmasq to\nupstream",
}
#: Lines of evidence per verdict, findings of a kind, nodes of one finding: the JSON report has all of them.
_EVIDENCE = 12
_FINDINGS = 12


def progress(sentence: str) -> None:
    """Say what is being done."""
    Console(stderr=True, highlight=False).print(Text(f"--> {plain.line(sentence)}"))


def quoted(text: str, most: int = 1000) -> None:
    """Show what another program has printed, as it was laid out, with nothing in it that a terminal obeys."""
    for line in plain.lines(text, most):
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"    {line}"))


def summary(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print the whole diagnosis, short. NO_COLOR and the terminal's width are honoured."""
    console = console or Console(stderr=True, highlight=False)
    console.print()
    _matrix(console, matrix(diagnosis))
    _unread(console, diagnosis["nodes"])
    for verdict in diagnosis["verdicts"]:
        _verdict(console, diagnosis, verdict)
    if said := same_words(diagnosis):
        _say(console, Text(said, style="dim"), 2)
    _findings(console, remaining(diagnosis))
    if diagnosis["unseen"]:
        console.print()
        for sentence in diagnosis["unseen"][:_FINDINGS]:
            _say(console, Text.assemble(("not seen: ", "magenta"), plain.line(sentence)))
        if len(diagnosis["unseen"]) > _FINDINGS:
            _say(console, Text(f"and {len(diagnosis['unseen']) - _FINDINGS} more not seen", style="dim"))
    console.print()
    _say(console, Text(headline(diagnosis), style="bold"))
    checks = Text(", ").join(
        Text(f"{count} {status}", style=_STYLE[Status(status)]) for status, count in counts(diagnosis).items()
    )
    _say(console, Text.assemble("checks: ", checks) if checks else Text("checks: none"))


def _matrix(console: Console, seen: Matrix) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("node")
    for stage in seen.stages:
        table.add_column(_HEADING[stage], no_wrap=True)
    for row in seen.rows:
        table.add_row(_name(row, "\n"), *(_cell(cell, "\n") for cell in row.cells))
    wide = console.options.update(max_width=1000)
    if seen.stages and Measurement.get(console, wide, table).maximum <= console.width:
        console.print(table)
    else:
        for row in seen.rows:
            _narrow(console, seen.stages, row)


def _unread(console: Console, nodes: Mapping[str, str]) -> None:
    reasons: dict[str, list[str]] = {}
    for node, why in nodes.items():
        if why:
            reasons.setdefault(why, []).append(node)
    for why, names in list(reasons.items())[:_FINDINGS]:
        _say(console, Text.assemble((f"not read: {plain.several(names, 3)}: ", "magenta"), plain.line(why)))


def _name(row: Row, gap: str = " ") -> Text:
    if row.more:
        return Text(row.more, style="dim")
    name = plain.line(row.node, 30)
    return Text(f"{name}{gap}(not read)", style="magenta") if row.why else Text(name)


def _cell(cell: Cell, gap: str = " ") -> Text:
    shown = Text(str(cell), style=_CELL[cell.state])
    if cell.state == "loses" and cell.loss:
        shown.append(f"{gap}{interval(cell.loss)}", style="dim")
    return shown


def _narrow(console: Console, stages: Sequence[Stage], row: Row) -> None:
    """A node in a terminal too narrow for the table: what is not ok, stage by stage."""
    _say(console, _name(row))
    states = Counter(cell.state for cell in row.cells)
    for stage, cell in zip(stages, row.cells, strict=False):
        if cell.state in ("loses", "unknown"):
            _say(console, Text.assemble(f"{stage}: ", _cell(cell)), 2)
    if states["ok"]:
        _say(console, Text(f"{'all' if states['ok'] == len(stages) else states['ok']} ok", style="green"), 2)


def _verdict(console: Console, diagnosis: Diagnosis, verdict: Verdict) -> None:
    console.print()
    _say(console, Text.assemble(("VERDICT ", "bold red"), (plain.line(verdict["sentence"]), "bold")))
    hop = first_losing(diagnosis, verdict)
    loss = worst(hop["losses"]) if hop else None
    told = [
        (
            "cause",
            f"{plain.line(verdict['check'])}: {plain.line(verdict['title'])}" if verdict["check"] else "not found",
        ),
        ("first loss", f"{hop_name(hop)}{f': {spoken(loss)}' if loss else ''}" if hop else ""),
        ("repair", plain.several(verdict["culprits"])),
        ("affected", plain.several(verdict["affected"])),
        ("so", plain.line(verdict["consequence"])),
    ]
    for what, text in told:
        if text:
            _say(console, Text.assemble((f"{what}: ", "dim"), text), 2)
    for number, line in enumerate(plain.evidence(verdict["evidence"], _EVIDENCE)):
        if not number:
            _say(console, Text("evidence:", style="dim"), 2)
        _say(console, Text(line), 4)
    for out in verdict["ruled_out"][:_FINDINGS]:
        about = f"not {plain.line(out['check'])}: " if out["check"] else "ruled out: "
        _say(console, Text.assemble((about, "dim"), plain.line(out["sentence"])), 2)
    _say(console, Text.assemble(("certainty: ", "dim"), plain.line(verdict["certainty"])), 2)
    # In one line, however long: it is there to be copied.
    fix = plain.command(verdict["fix"]) or "none of ours"
    console.print(Text.assemble(("  fix: ", "dim"), (fix, "bold")), soft_wrap=True)


def _findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line for each check, status and sentence, however many nodes have it."""
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding["status"], finding["check"], finding["sentence"]), []).append(finding)
    for status in (Status.FAIL, Status.UNKNOWN, Status.WARN):
        groups = [group for (said, *_), group in alike.items() if said == status]
        if groups:
            console.print()
        for group in groups[:_FINDINGS]:
            nodes = plain.several([finding["node"] for finding in group], 3)
            about = f" {nodes} {plain.line(group[0]['check'])}: {plain.line(group[0]['sentence'])}"
            _say(console, Text.assemble((status.upper(), _STYLE[status]), about))
        if len(groups) > _FINDINGS:
            _say(console, Text(f"and {len(groups) - _FINDINGS} more {status}", style="dim"))


def _say(console: Console, text: Text, indent: int = 0) -> None:
    """Wrapped below its indentation, and without spaces after it, so that it can be copied."""
    for line in text.wrap(console, max(20, console.width - indent), overflow="fold"):
        line.rstrip()
        console.print(Text(" " * indent) + line, soft_wrap=True)
