"""A run: its id, its journal on the controller, and how its changes are confirmed or taken back on a node."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from typing_extensions import override

#: On the node: one folder per run, in it one per step, with the old files, the new ones, a journal and undo.sh.
NODE_DIRECTORY = "/var/lib/dnsmend"
#: On the controller, below the working directory.
CONTROLLER_DIRECTORY = Path("runs")

#: This process's run. A name that sorts by time.
RUN = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(2)


def step_directory(run: str, step: str) -> str:
    """Where a step keeps its old files on the node."""
    return f"{NODE_DIRECTORY}/{run}/{step}"


def timer(run: str, step: str) -> str:
    """The transient unit that takes the step back unless it is stopped first."""
    return f"dnsmend-undo-{run}-{step}"


def record(run: str, node: str, event: str, **details: Any) -> None:
    """Append to the run's journal on the controller: one JSON object a line."""
    CONTROLLER_DIRECTORY.mkdir(exist_ok=True)
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "node": node, "event": event, **details}
    with (CONTROLLER_DIRECTORY / f"{run}.jsonl").open("a") as journal:
        journal.write(json.dumps(entry) + "\n")


class OpenSteps(FactBase[list[str]]):
    """The steps of a run that are in force on this node, the latest first.

    + run: the run's id

    .. code:: python

        ["dnsmasq"]
    """

    @staticmethod
    @override
    def default() -> list[str]:
        return []

    @override
    def process(self, output: Iterable[str]) -> list[str]:
        return list(output)

    @override
    def command(self, run: str) -> StringCommand:
        directory = QuoteString(f"{NODE_DIRECTORY}/{run}")
        script = 'cd "$1" 2>/dev/null && for step in $(ls -t); do [ -e "$step/undone" ] || echo "$step"; done; true'
        return StringCommand("sh", "-c", QuoteString(script), "-", directory)


def confirm(run: str) -> Iterator[StringCommand]:
    """The commands that stop the undo timers of a run's steps on the current host: what it changed is proven."""
    # The timer is stopped before anything is said to be well: a node that undid itself meanwhile is not.
    script = 'test ! -e "$1/undone" && systemctl stop "$2" && echo "$(date -u +%FT%TZ) proven" >> "$1/journal"'
    for step in host.get_fact(OpenSteps, run=run):
        directory, unit = step_directory(run, step), f"{timer(run, step)}.timer"
        yield StringCommand("sh", "-c", QuoteString(script), "-", QuoteString(directory), QuoteString(unit))


@operation()
def undo(run: str, reason: str = "undone by hand") -> Generator[StringCommand, None, None]:
    """
    Take back what a run has changed on this node.

    + run: the run's id, a folder of /var/lib/dnsmend on the node
    + reason: goes into the node's journal

    A file that somebody has edited since the run is left alone, and the operation fails with its name. Works from any
    controller: everything it needs is on the node.

    **Example:**

    .. code:: python

        runs.undo(name="Take the change back", run="20261121T235959Z-1f3a")
    """
    steps = host.get_fact(OpenSteps, run=run)
    if not steps:
        host.noop(f"run {run} has nothing to take back here")
    for step in steps:
        yield StringCommand("sh", QuoteString(f"{step_directory(run, step)}/undo.sh"), QuoteString(reason))
    if steps and host.state.is_executing:
        record(run, host.name, "undone", reason=reason, steps=steps)
