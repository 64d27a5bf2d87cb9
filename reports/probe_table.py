"""What the probes saw, as a table for people: one row per node, source, address and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from probes.count import lost, received, sent, unknown
from probes.probe import Result
from reports import plain

_PROTOCOLS = ("udp", "tcp", "icmp")


def show(results: Mapping[str, Sequence[Result]], console: Console | None = None) -> None:
    """Print the table on standard error."""
    table = Table(box=SIMPLE_HEAD)
    # In a narrow terminal a name goes on in the next line; a count is never cut.
    for heading in ("node", "from", "to", "asked for"):
        table.add_column(heading, overflow="fold")
    for protocol in _PROTOCOLS:
        table.add_column(protocol.upper(), no_wrap=True)
    for node, of_node in sorted(results.items()):
        rows: dict[tuple[str, str, str], dict[str, Result]] = {}
        for result in of_node:
            probe = result["probe"]
            row = (probe["source"]["name"], probe["destination"], probe["name"])
            rows.setdefault(row, {})[probe["protocol"]] = result
        for (source, destination, name), by_protocol in rows.items():
            cells = [_cell(by_protocol.get(protocol)) for protocol in _PROTOCOLS]
            shown = (node, source, destination, name or "(echo)")
            table.add_row(*(Text(plain.line(text, 80)) for text in shown), *cells)
    (console or Console(stderr=True, highlight=False)).print(table)


def _cell(result: Result | None) -> Text:
    if result is None:
        return Text()
    style = "magenta" if unknown(result) else "bold red" if lost(result) else "green"
    said = f"{received(result)}/{len(result['tries'])}" if sent(result) else "not sent"
    return Text(said, style=style)
