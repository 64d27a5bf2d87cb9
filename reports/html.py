"""The diagnosis as one page: nothing is loaded, nothing runs in it, it can be mailed and opened years later."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from checks.diagnosis import Diagnosis, doubtful
from checks.finding import Status
from reports import path, plain
from reports.layout import Picture, picture
from reports.matrix import (
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
    state,
)

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
#: Pictures of one page: a node that loses nothing is not drawn beside one that does.
PICTURES = 6
#: Rows of one table, findings of one status: the JSON report has all of them.
MOST = 200


def render(diagnosis: Diagnosis) -> str:
    """HTML 5. Every text is escaped by Jinja2 and, before that, made one visible line."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"plain": plain.line, "command": plain.command, "several": plain.several, "evidence": plain.evidence}
    nodes = _drawn(diagnosis)
    return env.get_template("report.html.j2").render(
        diagnosis=diagnosis,
        headline=headline(diagnosis),
        state=state(diagnosis),
        matrix=matrix(diagnosis),
        pictures=[_picture(diagnosis, node) for node in nodes[:PICTURES]],
        undrawn=len(nodes[PICTURES:]),
        first_losing=lambda verdict: first_losing(diagnosis, verdict),
        hop_name=hop_name,
        spoken=spoken,
        interval=interval,
        timeline=sorted(diagnosis["timeline"], key=lambda event: event["time"]),
        compared=compared(diagnosis),
        remaining=remaining(diagnosis),
        by_status={
            str(status): [finding for finding in diagnosis["findings"] if finding["status"] == status]
            for status in (Status.FAIL, Status.UNKNOWN, Status.WARN, Status.SKIP, Status.PASS)
        },
        counts=counts(diagnosis),
        same_words=same_words(diagnosis),
        most=MOST,
    )


def _picture(diagnosis: Diagnosis, node: str) -> Picture:
    return picture(path.of(diagnosis, node))


def _drawn(diagnosis: Diagnosis) -> list[str]:
    """The nodes to draw: where an incident starts, where something is lost, where something is unknown; else one."""
    first = [hop["node"] for verdict in diagnosis["verdicts"] if (hop := first_losing(diagnosis, verdict))]
    lose = [hop["node"] for hop in diagnosis["hops"] if hop["state"] == "loses"]
    doubt = [hop["node"] for hop in diagnosis["hops"] if doubtful(hop)]
    return list(dict.fromkeys([*first, *lose, *doubt])) or [hop["node"] for hop in diagnosis["hops"][:1]]
