"""Ansible inventories in INI format, read plainly: hosts, ranges, [group], [group:children], [group:vars]."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

from inventories.ansible_tree import Tree, expand
from inventories.listing import Note, Var

_SECTION = re.compile(r"^\[([^:\]\s]+)(?::(\w+))?\]\s*(?:[#;].*)?$")
_IPV6 = re.compile(r"^\[[0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*\]$")
_PORT = re.compile(r"^(?P<host>[^:\[\]]+(?:\[[^\]]*\][^:\[\]]*)*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]+)$")


def read(text: str, file: str) -> Tree:
    """
    The inventory as it stands. What cannot be understood is a note; nothing is guessed.

    + file: its name, for notes
    """
    tree = Tree()
    group, kind = "ungrouped", "hosts"
    for number, raw in enumerate(text.splitlines(), 1):
        line, place = raw.strip(), f"{file}:{number}"
        if not line or line[0] in "#;":
            continue
        if section := _SECTION.match(line):
            group, kind = section[1], section[2] or "hosts"
            if kind in ("hosts", "children", "vars"):
                tree.group(group)
            else:
                tree.notes.append(
                    Note(place, f"[{group}:{kind}]", "a section that is not known: its lines are not used")
                )
        elif kind == "hosts":
            _host(tree, group, line, place)
        elif kind == "children":
            child = line.split("#")[0].split(";")[0].strip()
            tree.children[group].append(child)
        elif kind == "vars":
            key, equals, value = (part.strip() for part in line.partition("="))
            if equals:
                tree.group_vars[group][key] = Var(_value(value), place)
            else:
                tree.notes.append(Note(place, key.split()[0], "a variable without a value"))
    return tree


def _host(tree: Tree, group: str, line: str, place: str) -> None:
    try:
        pattern, *pairs = shlex.split(line, comments=True)
    except ValueError as error:
        tree.notes.append(Note(place, line.split()[0], f"the line cannot be read, its host is left out: {error}"))
        return
    variables: dict[str, Var] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if equals:
            variables[key] = Var(_value(value), place)
        else:
            tree.notes.append(Note(place, key, "not key=value, not used"))
    if match := _PORT.match(pattern):
        pattern = match["host"]
    if _IPV6.match(pattern):
        pattern = pattern[1:-1]
    if match:
        variables.setdefault("ansible_port", Var(int(match["port"]), place))
    try:
        for name in list(expand(pattern)):
            tree.add(group, name, variables)
    except ValueError as error:
        tree.notes.append(Note(place, pattern, f"{error}: its hosts are left out"))


def _value(text: str) -> Any:
    """A number, list, True or False as Python writes it, as Ansible reads it; a string otherwise."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
