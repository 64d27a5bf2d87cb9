"""Guards on a node: what asks DNS and looks at iptables each minute and at boot, from the node itself."""

from __future__ import annotations

import base64
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts import snapshot
from facts.guards import MANIFEST, Guards, Installed
from facts.netfilter import Backend
from facts.reading import Reading
from facts.snapshot import Snapshot
from models import guard
from models.path import Names
from models.refused import Refused
from operations import guard_files, runs
from operations.guard_files import Boot, Files
from operations.scripts import step_script
from operations.wave import refusal
from probes import guard as asking

STEP = "guards"

#: Without these the guard would ask the wrong ones, or too few.
_NEEDED: tuple[Literal["interfaces", "sockets", "dnsmasq", "kube_proxy", "units"], ...] = (
    "interfaces",
    "sockets",
    "dnsmasq",
    "kube_proxy",
    "units",
)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one node's guard.

    + names: what is asked for; deadline_s: seconds for each question
    + vips: the node's own addresses on which dnsmasq serves DNS; services: addresses of the cluster's DNS services
    + programs: names of processes in DNS pods that ask a node's dnsmasq
    + backend: the iptables backend that the policy names; None for what the node has
    + boot: what a boot does that finds iptables changed
    + metrics: the folder that node_exporter reads
    """

    names: Names
    deadline_s: float
    vips: tuple[str, ...]
    services: tuple[str, ...]
    programs: tuple[str, ...]
    backend: Backend | None
    boot: Boot
    metrics: str


def plan(read: Snapshot | None, wanted: Wanted, reading: Reading[Installed | None]) -> tuple[Installed, Files]:
    """What is installed on one node, and what is to be, worked out without touching it. Raises Refused.

    + read: the node
    + reading: its guards, asked about `guard_files.needed_folders`
    """
    old = unedited(reading)
    if read is None:
        raise Refused("the node could not be read")
    for what in _NEEDED:
        known = read[what]
        if known["state"] not in ("value", "empty"):
            raise Refused(f"its {what} are not known: {known['state']}: {known['detail']}")
    asked = asking.questions(read, wanted.vips, wanted.services, wanted.names, wanted.deadline_s)
    record = guard.record(read, wanted.backend)
    if not asked and record is None:
        raise Refused("there is nothing to guard: it serves no DNS, runs no kube-proxy and has no iptables")
    required_by = guard.kubernetes_units(read)
    if wanted.boot == "block" and record and not required_by:
        raise Refused("guard_boot is block, and this node has no unit of Kubernetes that could be kept from starting")
    made = [*old["folders"], *old["missing"]]
    return old, guard_files.render(asked, record, wanted.programs, wanted.boot, wanted.metrics, required_by, made)


def unedited(reading: Reading[Installed | None]) -> Installed:
    """What is installed. Raises Refused where that is not known, or a file is not what was installed any more."""
    found = reading["value"]
    if reading["state"] not in ("value", "empty") or found is None:
        raise Refused(f"its guards are not known: {reading['state']}: {reading['detail']}")
    if edited := [each["path"] for each in found["files"] if each["now"] != each["digest"]]:
        raise Refused(f"edited since dnsmend installed it: {', '.join(edited)} ({MANIFEST} lists what it was)")
    return found


@operation()
def install(wanted: Wanted, run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Install the guards on this node, or bring them up to date with what the node serves now.

    + wanted: what is wanted of them on this node
    + run: the run's id, under which the way back is kept on the node

    A file of theirs that somebody has edited, or that is there and is not theirs, is a refusal with its name. They run
    once before this is done: guards that do not work here are taken back.

    **Example:**

    .. code:: python

        guards.install(name="The node watches itself", wanted=wanted)
    """
    # `host` is whichever host is current: snapshots are kept by the host itself.
    this = host.state.inventory.get_host(host.name)
    if host.state.is_executing:
        snapshot.forget(this)
    try:
        found = host.get_fact(Guards, folders=guard_files.needed_folders(wanted.metrics))
        old, new = plan(snapshot.of(this), wanted, found)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    if same(old, new):
        host.noop(f"the guards are installed: {len(new.files)} files, {', '.join(new.units)}")
    else:
        yield from _change(guard_files.installed(old), new, run)


@operation()
def remove(run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Remove the guards from this node: what their manifest lists, and nothing else.

    + run: the run's id, under which the way back is kept on the node

    A file of theirs that somebody has edited is a refusal with its name.

    **Example:**

    .. code:: python

        guards.remove(name="The node watches itself no more")
    """
    try:
        old = unedited(host.get_fact(Guards))
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    if not old["files"]:
        host.noop("no guard is installed here")
    else:
        yield from _change(guard_files.installed(old), Files(), run)


def same(old: Installed, new: Files) -> bool:
    """Whether what is installed, and runs, is what is to be."""
    digests = {each["path"]: (each["digest"], each["mode"]) for each in old["files"]}
    return digests == {each.path: (each.digest, each.mode) for each in new.files} and old["running"] == list(new.units)


def _change(old: Files, new: Files, run: str) -> Generator[StringCommand, None, None]:
    was = {file.path: file.digest for file in old.files}
    now = {file.path: file.digest for file in new.files}
    changed = [
        f"{'+' if path not in was else '-' if path not in now else '~'} {path}"
        for path in {**was, **now}
        if was.get(path) != now.get(path)
    ] or [f"its units run: {', '.join(new.units)}"]
    if not host.state.is_executing:
        for line in changed:
            host.log(line)
    script = step_script("guards/change.sh.j2", run, STEP, 0, about="the guards of this node", old=old, new=new)
    digests = {path: (was.get(path, "-"), now.get(path, "-")) for path in {**was, **now}}
    undo = step_script("guards/undo.sh.j2", run, STEP, 0, digests=digests, old=old, new=new)
    texts = {**{str(number): file.text for number, file in enumerate(new.files)}, "undo": undo}
    payload = "".join(f"{name} {base64.b64encode(text.encode()).decode()}\n" for name, text in texts.items())
    yield from runs.change(run, STEP, StringCommand(script, _stdin=payload), because="; ".join(changed))
