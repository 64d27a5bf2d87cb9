"""What the probes saw, as a table for people: one row per node, source, address and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from probes.count import lost, received, unknown
from probes.probe import Result

_PROTOCOLS = ("udp", "tcp", "icmp")


def show(results: Mapping[str, Sequence[Result]], console: Console | None = None) -> None:
    """Print the table on standard error."""
    table = Table(box=SIMPLE_HEAD)
    for heading in ("node", "from", "to", "asked for", *(protocol.upper() for protocol in _PROTOCOLS)):
        table.add_column(heading, no_wrap=True)
    for node, of_node in sorted(results.items()):
        rows: dict[tuple[str, str, str], dict[str, Result]] = {}
        for result in of_node:
            probe = result["probe"]
            row = (probe["source"]["name"], probe["destination"], probe["name"])
            rows.setdefault(row, {})[probe["protocol"]] = result
        for (source, destination, name), by_protocol in rows.items():
            cells = [_cell(by_protocol.get(protocol)) for protocol in _PROTOCOLS]
            table.add_row(escape(node), source, destination, name or "(echo)", *cells)
    (console or Console(stderr=True, highlight=False)).print(table)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    style = "magenta" if unknown(result) else "bold red" if lost(result) else "green"
    return f"[{style}]{received(result)}/{len(result['tries'])}[/]"
