"""The diagnosis as a post-mortem in Markdown: what happened, when, why, what it was not, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from checks.diagnosis import Diagnosis, Verdict
from checks.finding import Finding
from reports import plain
from reports.matrix import (
    Row,
    compared,
    counts,
    first_losing,
    headline,
    hop_name,
    interval,
    matrix,
    remaining,
    same_words,
    spoken,
)

#: What means something within a line, or at its beginning, or makes a link where nobody wrote one (GitHub's autolinks).
_SPECIAL = re.compile(r"[\\`*_\[\]<>|~&#$@{]|^[-+=]|(?<=^\d)[.)]|(?<=:)/(?=/)|(?<=www)\.", re.IGNORECASE)
_MOST = 100
"""Rows of one table: the JSON report has all of them."""


def render(diagnosis: Diagnosis) -> str:
    """CommonMark with tables (as GitHub and GitLab show them). Text from nodes cannot become markup or a link."""
    parts = [
        "# Cluster DNS: what was found",
        f"**{_text(headline(diagnosis))}**",
        f"Looked at from {_text(diagnosis['started'])} to {_text(diagnosis['finished'])} (UTC), "
        f"{len(diagnosis['nodes'])} nodes.",
        *_matrix(diagnosis),
    ]
    for number, verdict in enumerate(diagnosis["verdicts"], 1):
        parts += _verdict(diagnosis, number, verdict)
    if said := same_words(diagnosis):
        parts.append(said)
    parts += _timeline(diagnosis)
    parts += _compared(diagnosis)
    parts += _findings(remaining(diagnosis))
    if diagnosis["unseen"]:
        parts += ["## What could not be seen", _list(diagnosis["unseen"][:_MOST])]
    parts.append(f"Checks: {', '.join(f'{count} {status}' for status, count in counts(diagnosis).items()) or 'none'}.")
    return "\n\n".join(parts) + "\n"


def _matrix(diagnosis: Diagnosis) -> list[str]:
    seen = matrix(diagnosis)
    rows = [[_text(row.more or row.node), *(_cell(row, at) for at in range(len(seen.stages)))] for row in seen.rows]
    unread = [f"{node}: {why}" for node, why in diagnosis["nodes"].items() if why][:_MOST]
    return ["## The fleet", _table(["node", *seen.stages], rows), *(["Not read:", _list(unread)] if unread else [])]


def _cell(row: Row, at: int) -> str:
    if at >= len(row.cells):
        return ""
    cell = row.cells[at]
    if cell.state == "loses" and cell.loss:
        return f"**{cell}** ({interval(cell.loss)})"
    return "not read" if row.why and cell.state == "-" else str(cell)


def _verdict(diagnosis: Diagnosis, number: int, verdict: Verdict) -> list[str]:
    hop = first_losing(diagnosis, verdict)
    told = [
        ("Root cause", f"{verdict['check']}: {verdict['title']}" if verdict["check"] else "not found"),
        ("First losing hop", hop_name(hop) if hop else ""),
        ("Loss", "; ".join(map(spoken, hop["losses"])) if hop else ""),
        ("To repair", plain.several(verdict["culprits"], 50)),
        ("Affected", plain.several(verdict["affected"], 50)),
        ("Consequence", verdict["consequence"]),
        ("Certainty", verdict["certainty"]),
    ]
    parts = [
        f"## Incident {number}",
        f"**{_text(verdict['sentence'])}**",
        "\n".join(f"- {what}: {_text(text, 2000)}" for what, text in told if text),
    ]
    if verdict["evidence"]:
        parts += ["### Evidence", _block(plain.evidence(verdict["evidence"]))]
    if verdict["ruled_out"]:
        rows = [[_text(out["check"] or "here"), _text(out["sentence"])] for out in verdict["ruled_out"][:_MOST]]
        parts += ["### Ruled out", _table(["not", "because"], rows)]
    advice = plain.command(verdict["fix"])
    parts += ["### What to do", _block([advice]) if advice else "Nothing of ours repairs this."]
    return parts


def _timeline(diagnosis: Diagnosis) -> list[str]:
    events = sorted(diagnosis["timeline"], key=lambda event: event["time"])
    rows = [[_text(event[key]) for key in ("time", "node", "what", "source")] for event in events[:_MOST]]
    return ["## Timeline", _table(["time (UTC)", "node", "what", "source"], rows), *_more(events)] if rows else []


def _compared(diagnosis: Diagnosis) -> list[str]:
    if "before" not in diagnosis:
        return []
    hops = compared(diagnosis)
    rows = [list(map(_text, row)) for row in hops[:_MOST]]
    table = _table(["hop", "before", "after"], rows) if rows else "Every hop answered, before and after."
    return ["## Before and after", table, *_more(hops)]


def _findings(findings: Sequence[Finding]) -> list[str]:
    rows = [
        [str(finding["status"]), _text(finding["node"]), _text(finding["check"]), _text(finding["sentence"])]
        for finding in findings[:_MOST]
    ]
    table = _table(["status", "node", "check", "what"], rows)
    return ["## Other findings", table, *_more(findings)] if rows else []


def _more(things: Sequence[object]) -> list[str]:
    return [f"And {len(things) - _MOST} more."] if len(things) > _MOST else []


def _text(text: str, most: int = plain.LINE) -> str:
    return _SPECIAL.sub(r"\\\g<0>", plain.line(text, most))


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_text(text)}" for text in texts)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _block(lines: Sequence[str]) -> str:
    """Verbatim, in a fence that is longer than any in it."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])
