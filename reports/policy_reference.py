"""docs/policy.md: every key of group_data/all.py, with its default, what it may be, and what its comment says.

Both files are read as text, never imported: the page is made without pyinfra, and nothing of a policy is run.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field

from probes.blast import MOST_RATE

_HEADING = re.compile(r"# -{3,} (?P<title>.+?) -{3,}")

_HEAD = """<!-- Made by: make docs -->
# Policy: every key of group_data/all.py

What dnsmend wants of the nodes, and how it asks: each key with its default, and what it may be. Who wins, from weak to
strong: `group_data/all.py`, `group_data/GROUP.py`, a host's data in the inventory, `--data KEY=VALUE`. A value that
cannot be is named with its file, line and key before anything is done, and so is a key that is almost one of these;
other keys are yours. The keys below "How nodes are reached" are pyinfra's own, and are not checked, but for
`node_deadline`. With `--data`, which is read as JSON, None is `null`, True `true` and False `false`. How the keys are
used: [production](production.md).
"""

#: What a key may be that is pyinfra's own, by the type of its default.
_TYPES = {bool: "True or False", int: "a whole number", float: "a number"}

#: What the rules take from elsewhere.
_LIMITS = {"MOST_RATE": str(MOST_RATE)}


@dataclass(frozen=True)
class Entry:
    """One comment and the keys below it, each with its default as it is written."""

    text: str
    keys: list[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """What stands below one heading."""

    title: str
    entries: list[Entry] = field(default_factory=list)


def page(policy: str, rules: str) -> str:
    """
    The page, as Markdown.

    + policy: the text of group_data/all.py
    + rules: the text of deploys/policy_rules.py, which says what each key may be

    Raises ValueError for a key above the first heading, or without a comment: nothing would explain it.
    """
    may_be = kinds(rules)
    lines = [_HEAD]
    for section in sections(policy):
        lines += [f"## {section.title}", ""]
        for entry in section.entries:
            lines += [f"### {', '.join(f'`{key}`' for key, _ in entry.keys)}", ""]
            lines += [f"- `{key} = {value}`: {may_be.get(key) or _of(value)}" for key, value in entry.keys]
            lines += ["", *_markdown(entry.text), ""]
    return "\n".join(lines).rstrip() + "\n"


def sections(policy: str) -> list[Section]:
    """The keys of a policy's text by heading. A key without a comment of its own belongs to the comment above it."""
    comments = _comments(policy)
    found: list[Section] = []
    statements = [node for node in ast.parse(policy).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    last = 0
    for node in statements:
        between = (_HEADING.fullmatch(comments.get(line, "")) for line in range(last + 1, node.lineno))
        found += [Section(heading["title"]) for heading in between if heading]
        key, default = _assigned(policy, node)
        if not found:
            raise ValueError(f"line {node.lineno}: {key} stands above the first heading")
        text = _above(comments, node.lineno)
        if text:
            found[-1].entries.append(Entry(text, [(key, default)]))
        elif found[-1].entries and last == node.lineno - 1:
            found[-1].entries[-1].keys.append((key, default))
        else:
            raise ValueError(f"line {node.lineno}: {key} has no comment")
        last = node.end_lineno or node.lineno
    return found


def kinds(rules: str) -> dict[str, str]:
    """What each key may be, in the words of its rule: {"undo_after": "a whole number from 30 to 3600"}."""
    tree = ast.parse(rules)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    table = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign) and _name(node.target) == "RULES")
    assert isinstance(table, ast.Dict), "RULES is a dict"
    return {
        key.value: _may_be(rule, functions)
        for key, rule in zip(table.keys, table.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def _may_be(rule: ast.expr, functions: Mapping[str, ast.FunctionDef]) -> str:
    if isinstance(rule, ast.Call):
        match _name(rule.func):
            case "_or_none":
                return f"None, or {_may_be(rule.args[0], functions)}"
            case "_count":
                return "a whole number from {} to {}".format(*map(ast.literal_eval, rule.args))
            case "_one_of":
                return "one of those below"
    return _said(functions[_name(rule)], functions)


def _said(rule: ast.FunctionDef, functions: Mapping[str, ast.FunctionDef]) -> str:
    """What a rule says that a value must be, by itself or in the words of the rule that it calls."""
    calls: list[str] = []
    for node in ast.walk(rule):
        if isinstance(node, ast.JoinedStr | ast.Constant) and (words := _sentence(node)).startswith("must be "):
            return words.removeprefix("must be ")
        if isinstance(node, ast.Call) and _name(node.func) in functions:
            calls.append(_name(node.func))
    return _said(functions[calls[0]], functions)


def _sentence(text: ast.JoinedStr | ast.Constant) -> str:
    if isinstance(text, ast.Constant):
        return str(text.value)
    said = "".join(_part(part) for part in text.values)
    # A list of words at the end: the comment explains each.
    return re.sub(r"\.\.\.$", "those below", said)


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return _LIMITS.get(_name(part.value), "...")
    return str(part.value) if isinstance(part, ast.Constant) else "..."


def _of(value: str) -> str:
    return _TYPES.get(type(ast.literal_eval(value)), "as pyinfra's documentation says")


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _assigned(text: str, node: ast.Assign | ast.AnnAssign) -> tuple[str, str]:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    if not isinstance(target, ast.Name) or node.value is None:
        raise ValueError(f"line {node.lineno}: not a key and its value")
    written = ast.get_source_segment(text, node.value) or ast.unparse(node.value)
    return target.id, written if "\n" not in written else ast.unparse(node.value)


def _comments(text: str) -> dict[int, str]:
    """The comments that have a line of their own, by its number."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {at.start[0]: at.string for at in tokens if at.type == tokenize.COMMENT and at.start[1] == 0}


def _above(comments: Mapping[int, str], line: int) -> str:
    """The comment that ends right above a line, its marks taken off, its line ends kept."""
    lines: list[str] = []
    while (line := line - 1) in comments and not _HEADING.fullmatch(comments[line]):
        lines.insert(0, comments[line].removeprefix("#").removeprefix(" "))
    return "\n".join(lines)


def _markdown(comment: str) -> list[str]:
    """A comment's lines as Markdown: those that are indented are values with their meanings, kept as they are."""
    lines: list[str] = []
    kept = False
    for line in comment.splitlines():
        if line.startswith("  ") != kept:
            # Markdown knows a block by the empty lines around it.
            lines.append("")
            kept = not kept
        lines.append(f"  {line}" if kept else _escaped(line))
    return lines


def _escaped(line: str) -> str:
    # An asterisk or an angle bracket of a comment is no markup; between backticks it stays.
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([*<>])", r"\\\1", part) for part in parts)
