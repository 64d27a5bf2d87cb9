"""Ansible inventories in YAML format, read plainly: groups with hosts, vars and children, each with its line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from inventories.ansible_tree import Tree, expand
from inventories.listing import Note, Var

#: What stands for a value that is encrypted: it is known to be there, and nothing else of it.
VAULTED = object()


#: Brackets in brackets, and entries that aliases and merges (`<<: *base`) may make of a file: a few lines of them can
#: stand for more than any memory holds.
DEEPEST = 50
MOST = 200_000


class _Loader(yaml.SafeLoader):
    """Knows Ansible's tags, so that they are no error; and no file can keep it busy without end."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "too deep", self.get_mark())
        super().fetch_flow_collection_start(token)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST:
            raise yaml.constructor.ConstructorError(None, None, "too many merged entries", node.start_mark)


def _unsafe(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "!unsafe is for one word", node.start_mark)
    return str(node.value)


_Loader.add_constructor("!vault", lambda loader, node: VAULTED)
_Loader.add_constructor("!vault-encrypted", lambda loader, node: VAULTED)
_Loader.add_constructor("!unsafe", _unsafe)


class _Document:
    """A YAML file whose mappings tell the lines of their keys."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.left = MOST
        try:
            self.loader = _Loader(text)
            self.root = self.loader.get_single_node()
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ValueError(f"{file}:{line}: a character that YAML does not allow") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{file}:{mark.line + 1}" if mark else file
            # Not the parser's own words: they quote the file, which may hold a secret.
            raise ValueError(f"{where}: this is not YAML") from error
        except RecursionError as error:
            raise ValueError(f"{file}: too deep to be read") from error

    def pairs(self, node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node, str]]:
        """Key, value and place of each entry; nothing for what is no mapping."""
        if isinstance(node, yaml.MappingNode):
            try:
                self.loader.flatten_mapping(node)
            except (yaml.YAMLError, RecursionError) as error:
                raise ValueError(f"{self.file}:{node.start_mark.line + 1}: a merge that cannot be read") from error
            for key, value in node.value:
                place = f"{self.file}:{key.start_mark.line + 1}"
                self.left -= 1
                if self.left < 0:
                    raise ValueError(f"{place}: more than {MOST} entries, those of aliases counted")
                if not isinstance(key, yaml.ScalarNode):
                    raise ValueError(f"{place}: a key that is no word")
                yield str(self.value(key)), value, place

    def value(self, node: yaml.Node) -> Any:
        """The Python value."""
        try:
            return self.loader.construct_object(node, deep=True)
        # Dates that are none are a ValueError; what YAML calls a set may hold what Python cannot put into one.
        except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"{self.file}:{node.start_mark.line + 1}: a value that cannot be read") from error

    def variables(self, node: yaml.Node | None) -> dict[str, Var]:
        """The mapping as variables."""
        return {key: Var(self.value(value), place) for key, value, place in self.pairs(node)}


def variables(text: str, file: str) -> dict[str, Var]:
    """A file of group_vars or host_vars. ValueError: it is not YAML."""
    document = _Document(text, file)
    return document.variables(document.root)


def read(text: str, file: str) -> Tree:
    """
    The inventory as it stands. ValueError: it is not YAML, or no inventory.

    + file: its name, for notes
    """
    document = _Document(text, file)
    if document.root is None:
        return Tree()
    if not isinstance(document.root, yaml.MappingNode):
        raise ValueError(f"{file}: no inventory: groups are expected at its top")
    if any(key == "plugin" for key, _, _ in document.pairs(document.root)):
        raise ValueError(f"{file}: the configuration of an inventory plugin: only ansible-inventory can read it")
    tree = Tree()
    for name, body, place in document.pairs(document.root):
        _group(tree, document, name, body, place)
    return tree


def _group(tree: Tree, document: _Document, name: str, body: yaml.Node, place: str, depth: int = 0) -> None:
    tree.group(name)
    if depth > DEEPEST:
        raise ValueError(f"{place}: {name}: groups more than {DEEPEST} deep, or in themselves")
    if not isinstance(body, yaml.MappingNode):
        if document.value(body) is not None:
            tree.notes.append(
                Note(place, name, "a group must be a mapping of hosts, vars and children: it is left out")
            )
        return
    for key, value, at in document.pairs(body):
        if key == "hosts":
            _hosts(tree, document, name, value, at)
        elif key == "vars":
            tree.group_vars[name].update(document.variables(value))
        elif key == "children":
            for child, below, line in document.pairs(value):
                tree.children[name].append(child)
                _group(tree, document, child, below, line, depth + 1)
        else:
            tree.notes.append(Note(at, f"{name}.{key}", "neither hosts, vars nor children: not used"))


def _hosts(tree: Tree, document: _Document, group: str, node: yaml.Node, place: str) -> None:
    if isinstance(node, yaml.MappingNode):
        entries = list(document.pairs(node))
    else:
        # "hosts: node1" is allowed; a list is not, but what it means is plain.
        said = document.value(node)
        names = said if isinstance(said, list) else [said] if said else []
        if not all(isinstance(one, str | int | float) for one in names):
            raise ValueError(f"{place}: {group}.hosts holds what is no host's name")
        entries = [(str(one), yaml.MappingNode("tag:yaml.org,2002:map", []), place) for one in names]
    for pattern, body, at in entries:
        try:
            for host in list(expand(pattern)):
                tree.add(group, host, document.variables(body))
        except ValueError as error:
            tree.notes.append(Note(at, pattern, f"{error}: its hosts are left out"))
