"""Inventories of Ansible and Kubespray, as pyinfra reads one: INI, YAML, and whatever `ansible-inventory` can read.

Where `ansible-inventory` is installed it reads: it knows every format, plugins, vaults and group_vars. Otherwise, or
where it fails, a plain reader does, for INI and YAML files with their group_vars and host_vars. What is not understood
is said on standard error with its file, line and key, never silently passed over, and never with its value.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyinfra.api.exceptions import InventoryError

from inventories import ansible_ini, ansible_ssh, ansible_vars, ansible_yaml
from inventories.ansible_tree import flatten
from inventories.listing import Listing, Note, Var, sentences

#: Seconds that ansible-inventory may take: a plugin may ask a cloud.
TIMEOUT = 120
#: A folder's inventory, where no file is named.
_NAMES = re.compile(r"^(hosts|inventory)(\.(ya?ml|ini|cfg))?$")
#: Kubespray's group of jump hosts: they are no nodes.
_BASTIONS = ("bastion", "bastions")
_EXTENSIONS = ("", ".yml", ".yaml", ".json")


def groups(path: str) -> dict[str, list[Any]]:
    """
    pyinfra's groups: `all` with every host and its data, and each group's hosts by name, whatever its name is.

    + path: the inventory's file or folder. InventoryError: it cannot be read, or has no host
    """
    if not path:
        raise InventoryError("which inventory? DNSMEND_INVENTORY=PATH, or its path in this file")
    listing = read(Path(path).expanduser())
    made = translate(listing)
    for sentence in sentences(listing.notes):
        print(f"--> {sentence}", file=sys.stderr)
    if not made["all"]:
        raise InventoryError(f"{path}: an inventory without a host that can be reached")
    return made


def read(path: Path) -> Listing:
    """The inventory with `ansible-inventory`, plainly where that is not possible. InventoryError: not at all."""
    if not path.exists():
        raise InventoryError(f"{path}: no such inventory")
    program = shutil.which("ansible-inventory")
    if program is None:
        return plainly(path)
    try:
        return by_ansible(path, program)
    except InventoryError as error:
        listing = plainly(path)
        listing.notes.append(Note(str(path), "", f"{error}; it was read plainly"))
        return listing


def by_ansible(path: Path, program: str = "ansible-inventory") -> Listing:
    """What `ansible-inventory --list` says. InventoryError: it fails."""
    try:
        done = subprocess.run(
            [program, "-i", str(path), "--list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            # Without this a file that it gives up on in the middle is a success: its hosts, and none of its groups.
            env=os.environ | {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"},
        )
        said = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise InventoryError(f"ansible-inventory could not read it: {type(error).__name__}") from error
    if not isinstance(said, dict):
        # Its other lines quote the file.
        first = next(
            (line for line in done.stderr.splitlines() if line.startswith(("ERROR", "[ERROR"))), "no reason given"
        )
        raise InventoryError(f"ansible-inventory could not read it: {first[:150]}")
    listing = _listed(path, said)
    if not listing.hosts:
        # It ends with 0 even where no plugin could make anything of the file.
        raise InventoryError("ansible-inventory found no host in it")
    return listing


def _listed(path: Path, said: Mapping[str, Any]) -> Listing:
    """The answer as a listing; what only a file can tell (places, what is for playbooks) is the plain reader's."""
    try:
        plain = plainly(path)
    except InventoryError:
        plain = None
    # The plain reader is right about what is not used, and may be wrong about what it cannot read.
    listing = Listing(notes=[note for note in plain.notes if note.why.endswith("not used")] if plain else [])
    variables = said.get("_meta", {}).get("hostvars", {})
    groups = {name: body for name, body in said.items() if name != "_meta"}

    def hosts(name: str, seen: set[str]) -> Iterator[str]:
        if name not in seen:
            seen.add(name)
            yield from groups.get(name, {}).get("hosts", [])
            for child in groups.get(name, {}).get("children", []):
                yield from hosts(child, seen)

    for name in dict.fromkeys(hosts("all", set())):
        read = plain.hosts.get(name, {}) if plain else {}
        listing.hosts[name] = {
            key: Var(value, read[key].place if key in read else str(path))
            for key, value in variables.get(name, {}).items()
            if key in read or key.startswith("ansible_") or plain is None
        }
    for name in dict.fromkeys([*groups.get("all", {}).get("children", []), *groups]):
        if name != "all" and (found := list(dict.fromkeys(hosts(name, set())))):
            listing.groups[name] = found
    return listing


def plainly(path: Path) -> Listing:
    """The inventory without `ansible-inventory`. InventoryError: it is none, or one that only a program can read."""
    file = _file(path)
    try:
        text = file.read_text()
        if text.startswith("#!") or text.startswith("$ANSIBLE_VAULT"):
            raise ValueError(f"{file}: a program or encrypted: only ansible-inventory can read it")
        is_yaml = file.suffix in (".yml", ".yaml", ".json") or text.lstrip().startswith(("---", "all:", "{"))
        tree = (ansible_yaml if is_yaml else ansible_ini).read(text, file.name)
        variables: dict[str, dict[str, dict[str, Var]]] = {}
        for kind, names in (("group_vars", tree.members.keys() | {"all"}), ("host_vars", tree.hosts.keys())):
            variables[kind] = {}
            for name in sorted(names):
                variables[kind][name] = {}
                for vars_file in _vars_files(file.parent / kind / name):
                    label = str(vars_file.relative_to(file.parent))
                    variables[kind][name].update(_connection_vars(vars_file, label, tree.notes))
        return flatten(tree, variables["group_vars"], variables["host_vars"])
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InventoryError(str(error)) from error


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(file for file in path.iterdir() if file.is_file() and _NAMES.match(file.name))
    if len(found) == 1:
        return found[0]
    said = ", ".join(file.name for file in found) or "none"
    raise InventoryError(f"{path}: name the inventory's file: {said} of it could be one")


def _vars_files(stem: Path) -> Iterator[Path]:
    """GROUP, GROUP.yml, and every file in a folder GROUP, as Ansible finds them."""
    for extension in _EXTENSIONS:
        file = stem.with_name(stem.name + extension)
        if file.is_file():
            yield file
    if stem.is_dir():
        for file in sorted(stem.rglob("*")):
            if file.is_file() and file.suffix in _EXTENSIONS and not file.name.startswith("."):
                yield file


def _connection_vars(file: Path, label: str, notes: list[Note]) -> dict[str, Var]:
    """How nodes are reached, of a file that is mostly about what playbooks do there; how much is not, is a note."""
    text = file.read_text()
    if text.startswith("$ANSIBLE_VAULT"):
        notes.append(Note(label, "", "encrypted: not read"))
        return {}
    found = ansible_yaml.variables(text, label)
    mine = {key: var for key, var in found.items() if key.startswith("ansible_")}
    if len(found) > len(mine):
        notes.append(Note(label, "", f"{len(found) - len(mine)} variables that are not about reaching nodes: not used"))
    return mine


def translate(listing: Listing) -> dict[str, list[Any]]:
    """The listing as pyinfra's groups; what is not taken over is added to its notes."""
    names: dict[str, str] = {}
    every: dict[str, dict[str, Any]] = {}
    stanzas: dict[str, dict[str, str]] = {}
    for host, variables in listing.hosts.items():
        inside = {name for name, found in listing.groups.items() if host in found}
        if inside and inside <= set(_BASTIONS):
            place = next((var.place for var in variables.values()), "")
            listing.notes.append(Note(place, host, "left out: a bastion is no node"))
            continue
        name, data, stanza, notes = ansible_vars.data(host, variables)
        listing.notes += notes
        if not name:
            continue
        if name == host and not re.fullmatch(r"[\w.:-]+", host):
            listing.notes.append(Note("", host[:60], "left out: its name is none of a host"))
            continue
        names[host] = name
        every[name] = data
        if stanza:
            stanzas[name] = stanza
    if stanzas:
        path = ansible_ssh.write(stanzas)
        for name in stanzas:
            every[name]["ssh_config_file"] = path
    made: dict[str, list[Any]] = {"all": list(every.items())}
    for group, found in listing.groups.items():
        if group.startswith("_"):
            listing.notes.append(
                Note("", group, "left out: a group's name must not begin with an underscore for pyinfra")
            )
        else:
            made[group] = list(dict.fromkeys(names[host] for host in found if host in names))
    return made
