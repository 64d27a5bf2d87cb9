"""The report for people, on standard error: the fleet as a matrix, then what is wrong, why, and what fixes it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from checks.finding import Finding, Status

_STYLE = {
    Status.PASS: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.SKIP: "dim",
    Status.UNKNOWN: "magenta",
}
#: The worst of several findings of one check on one node is shown in the matrix.
_WORST = [Status.SKIP, Status.PASS, Status.WARN, Status.UNKNOWN, Status.FAIL]


def progress(sentence: str) -> None:
    """Say what is being done."""
    Console(stderr=True, highlight=False).print(f"--> {escape(sentence)}")


def report(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the findings. NO_COLOR and the terminal's width are honoured."""
    console = console or Console(stderr=True, highlight=False)
    console.print()
    console.print(_matrix(findings))
    for status in (Status.FAIL, Status.UNKNOWN, Status.WARN):
        for finding in findings:
            if finding["status"] == status:
                _print(console, finding)
    counts = {status: sum(finding["status"] == status for finding in findings) for status in Status}
    console.print(", ".join(f"[{_STYLE[status]}]{count} {status}[/]" for status, count in counts.items() if count))


def _matrix(findings: Sequence[Finding]) -> Table:
    checks = {finding["check"]: finding["title"] for finding in findings}
    table = Table(caption="\n".join(f"{check}: {title}" for check, title in checks.items()), caption_justify="left")
    table.add_column("node")
    for check in checks:
        table.add_column(check)
    for node in dict.fromkeys(finding["node"] for finding in findings):
        row = []
        for check in checks:
            said = [Status(f["status"]) for f in findings if f["node"] == node and f["check"] == check]
            worst = max(said, key=_WORST.index, default=Status.UNKNOWN)
            row.append(f"[{_STYLE[worst]}]{worst}[/]")
        table.add_row(escape(node), *row)
    return table


def _print(console: Console, finding: Finding) -> None:
    status = Status(finding["status"])
    console.print()
    console.print(
        f"[{_STYLE[status]}]{status.upper()}[/] {escape(finding['node'])} {finding['check']}: "
        f"{escape(finding['sentence'])}"
    )
    for line in finding["evidence"]:
        console.print(Padding(escape(line), (0, 0, 0, 4)))
    if finding["operation"]:
        console.print(Padding(f"fixed by {finding['operation']}: pyinfra inventory deploys/fix_dns.py", (0, 0, 0, 4)))
