"""The certificate of a new node, for people on standard error: may it join, and what was looked at."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from checks.diagnosis import Diagnosis
from checks.finding import Status
from reports import plain
from reports.matrix import same_words

_STYLE = {
    Status.PASS: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.UNKNOWN: "magenta",
}


def show(diagnosis: Diagnosis, console: Console | None = None) -> None:
    """Print a table per node. What does not apply to it is counted only."""
    console = console or Console(stderr=True, highlight=False)
    refused = {name: verdict for verdict in diagnosis["verdicts"] for name in verdict["culprits"]}
    for node, unread in diagnosis["nodes"].items():
        console.print()
        found = [finding for finding in diagnosis["findings"] if finding["node"] == node]
        shown = [finding for finding in found if finding["status"] != Status.SKIP]
        if node in refused:
            console.print(Text.assemble(("REFUSED ", "bold red"), plain.line(refused[node]["sentence"])))
        else:
            said = f"{plain.line(node)} may join: {len(shown)} checks, none failed and none is unknown"
            console.print(Text.assemble(("CERTIFIED ", "bold green"), said))
        if unread:
            continue
        table = Table(box=None, pad_edge=False, padding=(0, 1), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for finding in shown:
            status = Text(f"  {finding['status']}", style=_STYLE[finding["status"]])
            table.add_row(status, plain.line(finding["check"]), Text(plain.line(finding["sentence"])))
        console.print(table)
        console.print(Text(f"  {len(found) - len(shown)} checks do not apply", style="dim"))
        if node in refused and refused[node]["fix"]:
            fix = plain.command(refused[node]["fix"])
            console.print(Text(f"  brings it to the policy: {fix}"), soft_wrap=True)
    if said := same_words(diagnosis):
        console.print(Text(said, style="dim"))
    for sentence in diagnosis["unseen"]:
        console.print(Text.assemble(("not compared: ", "magenta"), plain.line(sentence)))
