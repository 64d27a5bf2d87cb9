"""dnsmasq's interface rules, so that pods are answered."""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Literal

from pyinfra import host, logger
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import operation

from facts import snapshot
from facts.dnsmasq import Instance
from facts.snapshot import Snapshot
from models import node
from models.interface_policy import Plan, Wanted, plan
from models.needs import Need, forecast
from models.refused import Refused
from operations import runs
from operations.scripts import TEMPLATES, step_script
from operations.wave import refusal

#: Without these the model would guess.
_NEEDED: tuple[Literal["interfaces", "routes", "sockets", "pods", "dnsmasq"], ...] = (
    "interfaces",
    "routes",
    "sockets",
    "pods",
    "dnsmasq",
)


#: Host ends of pods' veth pairs: Cilium, Calico, flannel and the bridge plugin, Amazon, Azure, GKE.
_POD_LINK = re.compile(r"^(lxc|cali|veth|eni|azv|gke)[0-9a-f]{5,}$")


@dataclass(frozen=True)
class Change:
    """One dnsmasq of a node that does not answer everybody, and the edit that makes it."""

    step: str
    instance: Instance
    vips: tuple[str, ...]
    plan: Plan


def changes(
    name: str,
    fleet: Mapping[str, Snapshot | None],
    *,
    policy: str,
    interfaces: Sequence[str] | None = None,
    foreign: Sequence[str] = (),
    served: Sequence[str],
) -> list[Change]:
    """What the policy needs on one node, worked out without touching it; empty where everybody is answered.

    + served: the node's own addresses that serve DNS, see `models.node.vips`

    Raises Refused with the reason. See `interface_policy` for the other arguments.
    """
    read = fleet[name]
    if read is None:
        raise Refused("the node could not be read")
    for what in _NEEDED:
        reading = read[what]
        if reading["state"] not in ("value", "empty"):
            raise Refused(f"its {what} are not known: {reading['state']}: {reading['detail']}")
    by_instance: dict[int, tuple[Instance, list[str]]] = {}
    for vip in served:
        instance = node.serving(read, vip)
        if instance:
            by_instance.setdefault(instance["pid"], (instance, []))[1].append(vip)
    found: list[Change] = []
    for number, (instance, addresses) in enumerate(by_instance.values(), 1):
        needs = [need for vip in addresses for need in node.needs(name, fleet, vip)]
        around = node.host(read, instance["pid"])
        if node.foreign(instance) and (lost := forecast(instance["options"], around, needs).lost()):
            # What it reads is written by that program, again and again.
            need, verdict = lost[0]
            raise Refused(
                f"dns_vips names {', '.join(addresses)}, whose dnsmasq {instance['unit']} runs and configures:"
                f" {need} is not answered: {verdict.because}"
            )
        wanted = Wanted(policy, tuple(interfaces or _arrivals(needs)), tuple(foreign))
        planned = plan(
            read["dnsmasq"]["value"],
            instance,
            around,
            needs,
            wanted,
            partial(_managed, policy),
        )
        if planned:
            step = "dnsmasq" if number == 1 else f"dnsmasq-{number}"
            found.append(Change(step, instance, tuple(addresses), planned))
    return found


def _arrivals(needs: Sequence[Need]) -> list[str]:
    """The interfaces on which everybody arrives, loopback left out: dnsmasq adds it by itself to a list of names.

    A pod's own link comes and goes with the pod: it is named by its kind.
    """
    return sorted({_POD_LINK.sub(r"\1*", need.query.arrival) for need in needs} - {"lo"})


def _managed(policy: str, lines: Sequence[str]) -> str:
    return TEMPLATES.get_template("dnsmasq-interface-policy.conf.j2").render(policy=policy, lines=lines)


@operation()
def interface_policy(
    policy: str,
    interfaces: Sequence[str] | None = None,
    foreign: Sequence[str] = (),
    vips: Sequence[str] | None = None,
    undo_after: int = 180,
    run: str = runs.RUN,
) -> Generator[StringCommand, None, None]:
    """
    Make the node's dnsmasq answer pods, LAN and host, where it does not.

    + policy: "except-lo", "bind-dynamic" or "named"
    + interfaces: for "named": what to listen on; None for those on which pods, LAN and host arrive
    + foreign: for "bind-dynamic": interface patterns that other dnsmasq processes serve
    + vips: the addresses on which nodes serve DNS; None to discover them
    + undo_after: seconds after which the node takes the change back unless `verify.dns_answers` has confirmed it
    + run: the run's id, under which the old files are kept on the node

    The new configuration is tried on the model and tested by dnsmasq itself before it is written. Only the dnsmasq that
    owns an address of `vips` is touched; it is restarted only if something was changed.

    **Example:**

    .. code:: python

        dnsmasq.interface_policy(name="dnsmasq answers pods", policy="except-lo")
    """
    if host.state.is_executing:
        # Others may have changed it since it was read.
        snapshot.forget(host)
    fleet = snapshot.everyone(host.state.inventory)
    try:
        served = node.vips(fleet if vips is None else {host.name: fleet[host.name]}, vips)[host.name]
        found = changes(host.name, fleet, policy=policy, interfaces=interfaces, foreign=foreign, served=served)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    if not found:
        host.noop("dnsmasq answers everybody who asks it here, or none serves DNS here")
    for change in found:
        if host.state.config.DIFF and not host.state.is_executing:
            show(host, change)
        command = StringCommand(script(change, run, undo_after), _stdin=payload(change, run))
        lines = [line for edit in change.plan.edits for line in diff(edit.path, edit.before, edit.after)]
        yield from runs.change(run, change.step, command, because=change.plan.because, diff=lines)
        snapshot.forget(host)


def diff(path: str, before: str | None, after: str) -> list[str]:
    """A unified diff with the file's name, without line ends."""
    old = (before or "").splitlines()
    was = path if before is not None else "/dev/null"
    return list(difflib.unified_diff(old, after.splitlines(), was, path, lineterm=""))


def show(node_host: Host, change: Change) -> None:
    """Print what would change, and why, among pyinfra's own messages."""
    node_host.log(change.plan.because)
    for edit in change.plan.edits:
        for line in diff(edit.path, edit.before, edit.after):
            logger.info("    %s", line)
    node_host.log(f"then dnsmasq --test with its own arguments, and systemctl restart {change.instance['unit']}")


def script(change: Change, run: str, undo_after: int) -> str:
    """The shell script that makes the change on the node; `payload` is its standard input."""
    return step_script(
        "change-files.sh.j2",
        run,
        change.step,
        undo_after,
        **_names(change),
        about=change.plan.because,
        test=shlex.join([*change.plan.argv, "--test"]),
    )


def payload(change: Change, run: str) -> str:
    """The new texts and the way back, one a line: name and base64."""
    was_active = change.instance["pid"] != 0
    undo = step_script("undo-files.sh.j2", run, change.step, 0, **_names(change), was_active=was_active)
    texts = {str(number): edit.after for number, edit in enumerate(change.plan.edits)} | {"undo": undo}
    return "".join(f"{name} {base64.b64encode(_bytes(text)).decode()}\n" for name, text in texts.items())


def _names(change: Change) -> dict[str, object]:
    return {
        "unit": change.instance["unit"],
        "edits": [
            {
                "number": number,
                "path": edit.path,
                "parent": str(PurePosixPath(edit.path).parent),
                "name": PurePosixPath(edit.path).name,
                "digest": "new" if edit.before is None else hashlib.sha256(_bytes(edit.before)).hexdigest(),
            }
            for number, edit in enumerate(change.plan.edits)
        ],
    }


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
