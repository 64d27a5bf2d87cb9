"""Groups in groups, host ranges, and whose variable wins: what INI and YAML inventories have in common."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inventories.listing import Listing, Note, Var

_RANGE = re.compile(r"\[([0-9]{1,12}|[A-Za-z]|):([0-9]{1,12}|[A-Za-z])(?::([0-9]{1,12}))?\]")
#: Hosts that one pattern may stand for.
_MOST = 10_000
#: Groups in groups.
_DEEPEST = 100
#: Characters of a pattern: RFC 1035 allows a name 255, a range needs some more.
_LONGEST = 1000


@dataclass
class Tree:
    """An inventory's file, as it stands. Names of children that are no group are noted when it is flattened."""

    hosts: dict[str, dict[str, Var]] = field(default_factory=dict)
    #: Each group's hosts, in the order of the file; the values say nothing.
    members: dict[str, dict[str, None]] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    group_vars: dict[str, dict[str, Var]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def group(self, name: str) -> None:
        """There is this group, even without a host."""
        self.members.setdefault(name, {})
        self.children.setdefault(name, [])
        self.group_vars.setdefault(name, {})

    def add(self, group: str, host: str, variables: Mapping[str, Var]) -> None:
        """A host of a group; later values win."""
        self.group(group)
        self.hosts.setdefault(host, {}).update(variables)
        self.members[group].setdefault(host)


def expand(pattern: str) -> Iterator[str]:
    """`node[01:10:2]`, `db-[a:c]`: every host that it stands for. ValueError: a range that is none, or is endless."""
    for number, name in enumerate(_expanded(pattern)):
        if number >= _MOST:
            raise ValueError(f"ranges of more than {_MOST} hosts")
        yield name


def _expanded(pattern: str) -> Iterator[str]:
    match = _RANGE.search(pattern[:_LONGEST])
    if len(pattern) > _LONGEST:
        raise ValueError("a name that is too long for a host")
    if not match:
        if re.search(r"\[[^\]]*:[^\]]*\]", pattern) and not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]", pattern):
            raise ValueError("a range that cannot be read")
        yield pattern
        return
    # As Ansible's expand_hostname_range does: no beginning is 0, and zeros are kept where it is longer than "0".
    first, last, step = match[1] or "0", match[2], int(match[3] or 1)
    if first.isdecimal() and last.isdecimal():
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        if width and len(last) != width:
            raise ValueError("a range whose ends have different lengths")
        numbers = range(int(first), int(last) + 1, step or 1)
        names = [str(number).zfill(width) for number in numbers[: _MOST + 1]]
    elif first.isalpha() and last.isalpha():
        letters = string.ascii_letters
        names = list(letters[letters.index(first) : letters.index(last) + 1 : step or 1])
    else:
        raise ValueError("a range from a letter to a number")
    if not step or not names or len(names) > _MOST:
        raise ValueError(f"a range of no hosts, or of more than {_MOST}")
    for name in names:
        for rest in _expanded(pattern[match.end() :]):
            yield pattern[: match.start()] + name + rest


def flatten(tree: Tree, files: Mapping[str, Mapping[str, Var]], host_files: Mapping[str, Mapping[str, Var]]) -> Listing:
    """
    Every host with all its variables.

    A deeper group wins over the one that it is in, of equals the later name, unless `ansible_group_priority` says
    otherwise; then group_vars/all, the other files of group_vars in the same order, the host's own, host_vars.

    + files: variables of group_vars by group; host_files: of host_vars by host
    """
    depths = _depths(tree)
    listing = Listing(notes=tree.notes)
    for name, below in tree.children.items():
        for child in below:
            if child not in tree.members:
                listing.notes.append(Note("", child, f"a child of {name} that is no group of this inventory"))
    hosts_of = {name: _hosts(tree, name, set()) for name in tree.members}
    grouped = {host for name, found in hosts_of.items() if name not in ("all", "ungrouped") for host in found}
    groups_of: dict[str, list[str]] = {host: [] for host in tree.hosts}
    for name in sorted(tree.members, key=lambda name: (depths[name], _priority(tree, name), name)):
        for host in hosts_of[name] if name != "all" else ():
            groups_of[host].append(name)
    for host, own in tree.hosts.items():
        order = groups_of[host]
        layers: list[Mapping[str, Var]] = [tree.group_vars.get("all", {}), *(tree.group_vars[name] for name in order)]
        layers += [files.get("all", {}), *(files.get(name, {}) for name in order)]
        layers += [own, host_files.get(host, {})]
        merged = {key: var for layer in layers for key, var in layer.items()}
        listing.hosts[host] = {key: var for key, var in merged.items() if key != "ansible_group_priority"}
    listing.groups = {name: found for name, found in hosts_of.items() if name not in ("all", "ungrouped")}
    loose = [host for host in tree.hosts if host not in grouped]
    if loose:
        listing.groups["ungrouped"] = loose
    return listing


def _depths(tree: Tree) -> dict[str, int]:
    """How far each group is below `all`, by its longest way. ValueError: a group that is in itself."""
    depths: dict[str, int] = {}

    def visit(name: str, depth: int, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"the group {name} is in itself: {' > '.join([*above, name])}")
        if depth > _DEEPEST:
            raise ValueError(f"groups more than {_DEEPEST} deep: {' > '.join(above[:3])} ...")
        if depths.get(name, -1) < depth:
            depths[name] = depth
            for child in tree.children.get(name, []):
                visit(child, depth + 1, (*above, name))

    for name in tree.members:
        visit(name, 0 if name == "all" else 1, ())
    return depths


def _hosts(tree: Tree, name: str, seen: set[str]) -> list[str]:
    """The group's hosts and those of its children, each once, in the inventory's order."""
    seen.add(name)
    found = set(tree.members.get(name, []))
    for child in tree.children.get(name, []):
        if child in tree.members and child not in seen:
            found |= set(_hosts(tree, child, seen))
    return [host for host in tree.hosts if host in found]


def _priority(tree: Tree, name: str) -> int:
    var = tree.group_vars[name].get("ansible_group_priority")
    return var.value if var and isinstance(var.value, int) else 1
