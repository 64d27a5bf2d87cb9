"""What deploys/fix_dns.py would change: told from pyinfra's dry run, or from recorded snapshots without any node."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyinfra.api.exceptions import PyinfraError

from deploys import bundle, rollout
from deploys.policy import Policy
from deploys.rollout import NodeChange
from facts.snapshot import FACTS, Snapshot
from models.kube_services import Endpoints
from models.stale_rules import other
from operations import dnsmasq
from operations.wave import OTHERS
from reports.drift import Drift, Pending

#: What deploys/fix_dns.py does around a change, and never without one: it is no drift by itself.
AROUND = {
    "One run at a time",
    "takes no new pods",
    "prove it from the pods",
    "takes pods again",
    "CoreDNS starts afresh",
    "Free for other runs",
}
_WAVE = re.compile(rf"^(?:Wave \d+ of \d+|{OTHERS}): ")
_READY = re.compile(r"^\s*\[(.+)\] Ready: ")
_NO_MATCH = re.compile(r"No host matches found for --(?:limit|exclude) pattern: .*")
#: What deploys/fix_dns.py says of a node where it cannot know whether there is something to do.
_LEFT_ALONE = re.compile(r"\S+: iptables is left alone: .*")
_FACT = "facts.snapshot.NodeSnapshot"


class Recorded(NamedTuple):
    """Snapshots by node, None for one that was not read, and the endpoints that went with them."""

    fleet: dict[str, Snapshot | None]
    endpoints: Endpoints


def of_dry_run(code: int, output: str, log: Sequence[str]) -> Drift:
    """
    What `pyinfra INVENTORY deploys/fix_dns.py --dry --json` says.

    + code: its exit code; output: its standard output; log: the lines of its standard error

    The JSON knows no node that could not be reached, and none that needs nothing: which nodes were compared is in the
    log. An operation with a condition is pending as well: each of a wave's operations waits for the wave before it.
    """
    nodes = [match[1] for line in log if (match := _READY.match(line))]
    errors = [match[0] for line in log if (match := _NO_MATCH.search(line) or _LEFT_ALONE.search(line))]
    try:
        plan = json.loads(output)["plan"]
    except (ValueError, KeyError, TypeError):
        plan = []
        if not code:
            errors.append("pyinfra gave no plan")
    if code:
        errors.append(f"pyinfra ended with {code}: a node could not be reached or read, or would refuse (see above)")
    elif not nodes:
        errors.append("no node was compared: the inventory is empty, or --limit matches nothing")
    pending: list[Pending] = [
        {"node": node, "operation": name, "because": []}
        for operation in plan
        if (name := _WAVE.sub("", operation["name"])) not in AROUND
        for node in (*operation["hosts_with_change"], *operation["hosts_with_conditional_change"])
    ]
    return {"nodes": sorted(nodes), "pending": sorted(pending, key=lambda each: each["node"]), "errors": errors}


def of_snapshots(wanted: Mapping[str, Policy], recorded: Recorded) -> Drift:
    """What the policy would change on nodes as they were recorded. Asks nobody.

    + wanted: the policy of each node of the inventory
    """
    why = {name: _useless(recorded.fleet.get(name)) for name in wanted}
    known = {name: policy for name, policy in wanted.items() if not why[name]}
    errors = [f"{name}: {reason}" for name, reason in why.items() if reason]
    if not wanted:
        errors.append("no node was compared: the inventory is empty, or there are no snapshots")
    fleet = {name: recorded.fleet[name] for name in known}
    changes, refusals = rollout.needed(known, fleet, recorded.endpoints, len(wanted) - len(known))
    pending = [each for name, change in changes.items() for each in _pending(name, change)]
    errors += [f"{name}: {change.left_alone}" for name, change in changes.items() if change.left_alone]
    return {"nodes": list(known), "pending": pending, "errors": [*errors, *refusals]}


def _useless(read: Snapshot | None) -> str:
    if read is None:
        return "there is no snapshot of it"
    missing = [what for what in FACTS if what not in read]
    return f"its snapshot, of another dnsmend, lacks {', '.join(missing)}: record it anew" if missing else ""


def _pending(name: str, change: NodeChange) -> list[Pending]:
    """In the words of deploys/fix_dns.py."""
    found: list[tuple[str, list[str]]] = []
    asked = change.asked
    if asked.settings:
        found.append(("kernel settings", [f"{name} -> {value}" for name, value in asked.settings.items()]))
    if change.backend:
        losing = other(change.backend.backend)
        why = [] if change.backend.switches else ["it is, but only by the alternatives' priority"]
        found.append((f"iptables is {change.backend.backend}", why))
        if change.backend.cleans:
            found.append((f"no stale rule in {losing}", [f"{losing} holds rules of kube-proxy or the kubelet"]))
    if asked.restart:
        found.append(("kube-proxy writes its rules anew", list(asked.because)))
    if asked.flush:
        found.append(("forget where DNS went", list(asked.because)))
    if change.dnsmasq:
        why = [each.plan.because for each in change.dnsmasq]
        why += [line for each in change.dnsmasq for edit in each.plan.edits for line in _diff(edit)]
        found.append(("dnsmasq answers pods, LAN and host", why))
    return [{"node": name, "operation": operation, "because": because} for operation, because in found]


def _diff(edit: Any) -> list[str]:
    return dnsmasq.diff(edit.path, edit.before, edit.after)


def load(directory: str) -> Recorded:
    """Snapshots of a bundle (deploys/diagnose.py --data bundle=DIR), or of a directory of JSON files.

    A file holds one node's snapshot under its name (node-0.json), or what
    `pyinfra INVENTORY fact facts.snapshot.NodeSnapshot --json` prints. Raises PyinfraError, in one sentence.
    """
    if (Path(directory) / "manifest.json").is_file():
        seen = bundle.load(directory)
        return Recorded(seen.fleet, seen.evidence.get("endpoints", {}))
    fleet: dict[str, Snapshot | None] = {}
    for path in sorted(Path(directory).glob("*.json")):
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise PyinfraError(f"{path}: is no snapshot: {error}") from error
        several = found.get(_FACT) if isinstance(found, dict) else None
        nodes = several if isinstance(several, dict) else {path.stem: found}
        for name, read in nodes.items():
            if not (isinstance(read, dict) and isinstance(read.get("dnsmasq"), dict)):
                raise PyinfraError(f"{path}: is no snapshot: it does not hold what {_FACT} reads")
            fleet[name] = read  # type: ignore[assignment]
    if not fleet:
        raise PyinfraError(f"{directory}: is neither a bundle nor a directory of snapshots")
    return Recorded(fleet, {})
