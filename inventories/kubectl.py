"""The cluster's own list of its nodes, as pyinfra reads an inventory: `kubectl get nodes -o json`.

It knows addresses and roles, and nothing of SSH: user, key and jump host come from ~/.ssh/config or from group_data.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import InventoryError

from inventories.listing import Note, sentences

#: Seconds that the API may take.
TIMEOUT = 20
_ROLE = "node-role.kubernetes.io/"


def groups(path: str) -> dict[str, list[Any]]:
    """
    pyinfra's groups: `all` with every node and its address, and one group for each role; `worker` for those without.

    + path: a file with what kubectl said, or "" to ask it now. InventoryError: no node can be had from it
    """
    made, notes = translate(_said(path), path or "kubectl")
    for sentence in sentences(notes):
        print(f"--> {sentence}", file=sys.stderr)
    if not made["all"]:
        raise InventoryError(f"{path or 'kubectl get nodes'}: no node that can be reached")
    return made


def _said(path: str) -> Any:
    try:
        if path:
            return json.loads(Path(path).expanduser().read_text())
        done = subprocess.run(
            ["kubectl", "get", "nodes", "-o", "json", f"--request-timeout={TIMEOUT // 2}s"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InventoryError(f"kubectl get nodes: {reason[:300]}")
        return json.loads(done.stdout)
    except FileNotFoundError as error:
        raise InventoryError(f"{path or 'kubectl'}: not found") from error
    except subprocess.TimeoutExpired as error:
        raise InventoryError(f"kubectl get nodes: it did not answer within {TIMEOUT} s") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InventoryError(
            f"{path or 'kubectl get nodes'}: {type(error).__name__}: not what kubectl prints"
        ) from error


def translate(said: Any, source: str) -> tuple[dict[str, list[Any]], list[Note]]:
    """The groups, and the nodes that are left out. InventoryError: this is no list of nodes."""
    if not isinstance(said, dict) or said.get("kind") not in ("List", "NodeList", "Node"):
        raise InventoryError(f"{source}: no list of nodes: kubectl get nodes -o json prints one")
    made: dict[str, list[Any]] = {"all": []}
    notes: list[Note] = []
    items = [said] if said["kind"] == "Node" else said.get("items") or []
    if not isinstance(items, list):
        raise InventoryError(f"{source}: items is no list of nodes")
    for number, item in enumerate(items):
        place = f"{source}: items[{number}]"
        metadata = _mapping(item, "metadata")
        name, labels = _name(metadata.get("name")), _mapping(metadata, "labels")
        if not isinstance(item, dict) or item.get("kind", "Node") != "Node" or not name:
            notes.append(Note(place, "", "no node: left out"))
            continue
        system = labels.get("kubernetes.io/os", "linux")
        if system != "linux" or labels.get("type") == "virtual-kubelet":
            kind = system if system != "linux" else "virtual"
            notes.append(Note(place, name, f"left out: nothing to reach over SSH ({kind} node)"))
            continue
        address = _address(item)
        if not address:
            notes.append(Note(place, name, "has no InternalIP: it is reached by its name"))
        made["all"].append((name, {"ssh_hostname": address} if address else {}))
        roles = [label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE)]
        for role in roles or ["worker"]:
            made.setdefault(role, []).append(name)
    return made, notes


def _mapping(parent: Any, key: str) -> dict[str, Any]:
    """What stands under a key, where both are mappings; an empty one otherwise."""
    found = parent.get(key) if isinstance(parent, dict) else None
    return found if isinstance(found, dict) else {}


def _name(name: Any) -> str:
    return name if isinstance(name, str) and re.fullmatch(r"[a-z0-9.-]{1,253}", name) else ""


def _address(node: dict[str, Any]) -> str:
    """The first InternalIP that is an address."""
    said = _mapping(node, "status").get("addresses")
    for one in said if isinstance(said, list) else []:
        if isinstance(one, dict) and one.get("type") == "InternalIP" and isinstance(one.get("address"), str):
            try:
                return str(ip_address(one["address"]))
            except ValueError:
                continue
    return ""
