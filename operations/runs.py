"""A run: its id, its journal on the controller, and how its changes are confirmed or taken back on a node."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import operation

from facts.runs import FOLDER, Runs, UndoPlan
from operations.wave import Wave, refusal

#: On the node: one folder per run, in it one per step, with the old files, the new ones, a journal and undo.sh.
NODE_DIRECTORY = FOLDER
#: On the node, gone with a boot: whose run holds it.
NODE_LOCK = "/run/dnsmend/lock"
#: Runs that a node keeps, the present one among them; older ones go when a new one begins there.
KEPT = 10
#: On the controller, below the working directory.
CONTROLLER_DIRECTORY = Path("runs")

#: This process's run: a name that sorts by time; the one of which it does a part, where another process has begun it.
RUN = os.environ.get("DNSMEND_RUN") or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(2)
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


#: Who runs this, and where: for those who find the lock, or the run on a node.
BY = f"{_user()}@{socket.gethostname()}, process {os.getpid()}"

_waves: dict[str, int] = {}


def is_id(run: str) -> bool:
    """Whether this may be a run's id: it becomes the name of a folder on the nodes."""
    return _RUN.fullmatch(run) is not None


def step_directory(run: str, step: str) -> str:
    """Where a step keeps its old files on the node."""
    return f"{NODE_DIRECTORY}/{run}/{step}"


def timer(run: str, step: str) -> str:
    """The transient unit that takes the run back unless it is stopped first; that of its latest step is the one."""
    return f"dnsmend-undo-{run}-{step}"


def boot_unit(run: str) -> str:
    """The unit that takes the run back when the node is booted before it was confirmed."""
    return f"dnsmend-undo-{run}.service"


def printable(text: str) -> str:
    """A node's words without what would move a terminal's cursor, cut where they are too many."""
    return "".join(each if each.isprintable() else "?" for each in text[:1000])


def begin(run: str, waves: Sequence[Wave], policy: Mapping[str, Any]) -> None:
    """Open the run's journal: who, the policy, the waves. From here on each step knows its wave."""
    _waves.update({name: wave.number for wave in waves for name in wave.nodes})
    try:
        record(run, "", "began", by=BY, policy=dict(policy), waves=[list(wave.nodes) for wave in waves])
    except PyinfraError as reason:
        raise PyinfraError(f"stopped before any change: {reason}") from reason


def wave_of_host() -> int:
    """The wave of the current host in this run; 0 outside of waves."""
    return _waves.get(host.name, 0) if _waves else 0


def record(run: str, node: str, event: str, **details: Any) -> None:
    """Append to the run's journal on the controller: one JSON object a line. Only its owner may read it.

    Raises PyinfraError, which ends the run, where it cannot be written: nobody would know what was done.
    """
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "node": node, "event": event}
    wave = {"wave": _waves[node]} if node in _waves else {}
    path = CONTROLLER_DIRECTORY / f"{run}.jsonl"
    line = json.dumps({**entry, **wave, **details}) + "\n"
    try:
        CONTROLLER_DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as journal:
            journal.write(line)
    except OSError as error:
        raise PyinfraError(
            f"the run's journal cannot be written ({error}): it ends here, and nodes take back what is not proven"
        ) from error


def change(run: str, step: str, command: StringCommand, **details: Any) -> Generator[StringCommand, None, None]:
    """The command of a step, and its outcome in the run's journal.

    + details: what is written down of it: why, the difference
    """
    try:
        yield command
    except GeneratorExit:
        # pyinfra leaves an operation at the command that fails; a plan it leaves at the first one.
        if host.state.is_executing:
            record(run, host.name, "failed", step=step, **details)
        raise
    record(run, host.name, "changed", step=step, **details)


def confirm(run: str) -> Iterator[StringCommand]:
    """The command that makes a run's steps on the current host stay: what it changed is proven.

    It fails where the node has taken something back meanwhile.
    """
    script = 'test ! -e "$1" || sh "$1" confirm'
    yield StringCommand("sh", "-c", QuoteString(script), "-", QuoteString(f"{NODE_DIRECTORY}/{run}/run.sh"))
    record(run, host.name, "confirmed")


@operation()
def undo(run: str, reason: str = "by hand", whole: bool = True) -> Generator[StringCommand, None, None]:
    """
    Take back what a run has changed on this node, the latest step first.

    + run: the run's id, a folder of /var/lib/dnsmend on the node
    + reason: goes into the node's journal
    + whole: everything or, where somebody has changed one of the things since, nothing; False for what can be

    The operation fails with the name of what somebody else has changed. Works from any controller: everything it needs
    is on the node. kube-proxy is restarted where the run had restarted it.

    **Example:**

    .. code:: python

        runs.undo(name="Take the change back", run="20261121T235959Z-1f3a")
    """
    if not is_id(run):
        yield refusal(f"refused: {run!r} is no run's id")
        return
    if run == RUN and not host.state.is_executing:
        # A plan of this very run: it has changed nothing yet.
        host.noop(f"run {run} has nothing to take back here")
        return
    found = host.get_fact(Runs)
    if found["state"] not in ("value", "empty"):
        yield refusal(f"refused: its runs are not known: {found['state']}: {found['detail']}")
        return
    steps = [each["step"] for each in found["value"] if each["run"] == run and each["state"] != "undone"]
    if not steps:
        host.noop(f"run {run} has nothing to take back here")
        return
    if not host.state.is_executing:
        way = host.get_fact(UndoPlan, run=run)
        for line in way["value"]["does"] if way["value"] else []:
            host.log(printable(line))
        for line in way["value"]["refused"] if way["value"] else [f"{way['state']}: {way['detail']}"]:
            host.log(f"refused: {printable(line)}")
    how = "all" if whole else "each"
    try:
        yield StringCommand("sh", QuoteString(f"{NODE_DIRECTORY}/{run}/run.sh"), how, QuoteString(reason))
    except GeneratorExit:
        if host.state.is_executing:
            record(run, host.name, "not undone", reason=reason, steps=steps)
        raise
    record(run, host.name, "undone", reason=reason, steps=steps)
