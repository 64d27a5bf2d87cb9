"""Recorded nodes of the lab, bent to the shape that a test needs."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

from facts.dnsmasq_options import Option
from facts.pods import Pod
from facts.snapshot import Snapshot

FILE = "/etc/dnsmasq.d/20-upstreams.conf"

Fleet = dict[str, Snapshot]


def recorded() -> Fleet:
    """node-0 and node-1, healthy."""
    text = (Path(__file__).parent.parent / "fixtures" / "fleet.json").read_text()
    return cast(Fleet, json.loads(text))


def option(name: str, value: str | None, line: int = 1) -> Option:
    return {"name": name, "value": value, "file": FILE, "line": line}


def set_upstreams(node: Snapshot, *options: Option) -> None:
    """What the node's dnsmasq asks: these options, in the place of those that say so now."""
    for instance in node["dnsmasq"]["value"]["instances"]:
        kept = [one for one in instance["options"] if one["name"] not in ("server", "no-resolv", "resolv-file")]
        instance["options"] = [*kept, *options]


def set_uplinks(node: Snapshot, *addresses: str) -> None:
    """What the node's systemd-resolved asks."""
    resolved = node["resolved"]["value"]
    assert resolved is not None
    resolved["uplinks"] = resolved["servers"] = list(addresses)


def pod(node: Snapshot, address: str) -> Pod:
    """The node's pod with this address."""
    return next(one for one in node["pods"]["value"] if address in one["addresses"])


def add_pod(node: Snapshot, like: str, address: str, pid: int, *nameservers: str) -> Pod:
    """A further pod of the node, on the same way into the host as another one."""
    made = copy.deepcopy(pod(node, like))
    made["addresses"], made["nameservers"], made["pid"], made["netns"] = [address], list(nameservers), pid, pid
    node["pods"]["value"].append(made)
    return made


def reading(value: Any) -> Any:
    """A section that was read."""
    return {"state": "value" if value else "empty", "value": value, "detail": ""}
