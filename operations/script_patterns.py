"""What a script may look like, whatever data it holds: a tree made from the same template that makes the script.

A tree is a list of nodes, plain JSON, so that it can be handed to a node:

    "text"                                     as it stands
    {"hole": NAME, "like": REGEX}              data; a named hole holds the same wherever it comes again
    {"each": LIST, "body": [...]}              the body once for each item of a list
    {"either": [[...], [...]]}                 one of two bodies
    {"if_new": NAME, "either": [[...], [...]]} the first body where that hole holds "new", else the second

`operations/restricted_shell.py` makes a regular expression of it there. Every hole has to be known: a template with one
that is not cannot be allowed by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from operations.scripts import TEMPLATES

Tree = list[Any]


class Hole(NamedTuple):
    """What one expression of a template may give.

    + name: holes of one name hold the same text; "" for one that stands for itself
    + like: a regular expression; whatever it matches must be one word, or a part of a word, to sh
    """

    name: str
    like: str


def of_template(name: str, holes: Mapping[str, Hole]) -> Tree:
    """The tree of a file of templates/. Raises KeyError for an expression that is none of the holes.

    + holes: by the expression as it stands between the braces
    """
    source = TEMPLATES.loader.get_source(TEMPLATES, name)[0]  # type: ignore[union-attr]
    tree, end = _body(_parts(source), holes)
    if end:
        raise ValueError(f"{name}: {end} without its beginning")
    return tree


def of_text(text: str, holes: Mapping[str, Hole]) -> Tree:
    """The tree of a text that an operation has made with marks for its data: `@run@` for the hole "run".

    A mark is a word that shlex.quote leaves as it is. Raises KeyError for a mark that is none of the holes.
    """
    parts = re.split(r"@([a-z_]+)@", text)
    return [_hole(holes[part]) if number % 2 else part for number, part in enumerate(parts) if part]


def _hole(hole: Hole) -> dict[str, str]:
    return {"hole": hole.name, "like": hole.like}


def _parts(source: str) -> Iterator[tuple[str, str]]:
    """Kind and text of a template's parts: "text", "hole" or "block"."""
    inside: list[str] = []
    for _, token, value in TEMPLATES.lex(source):
        if token in ("variable_begin", "block_begin"):
            inside = []
        elif token == "variable_end":
            yield "hole", "".join(inside).strip()
        elif token == "block_end":
            yield "block", "".join(inside).strip()
        elif token == "data":
            yield "text", value
        elif token.startswith("comment"):
            raise ValueError("a Jinja comment is not expected here")
        else:
            inside.append(value)


def _body(parts: Iterator[tuple[str, str]], holes: Mapping[str, Hole]) -> tuple[Tree, str]:
    """The tree up to the block that ends it, and that block: "else", "endif", "endfor", or "" for the end."""
    tree: Tree = []
    for kind, text in parts:
        if kind == "text":
            tree.append(text)
        elif kind == "hole":
            tree.append(_hole(holes[text]))
        elif text in ("else", "endif", "endfor"):
            return tree, text
        elif text.startswith("set "):
            continue  # What it is used for is a hole of its own.
        elif text.startswith("include "):
            tree += of_template(text.split(" ", 1)[1].strip("\"'"), holes)
        else:
            tree.append(_block(text, parts, holes))
    return tree, ""


def _block(text: str, parts: Iterator[tuple[str, str]], holes: Mapping[str, Hole]) -> Any:
    if loop := re.fullmatch(r"for (\w+)(?:, \w+)? in (\w+)(?:\.items\(\))?(?: if (.+))?", text):
        body, _ = _body(parts, holes)
        return {"each": loop[2], "body": [_condition(loop[3], body, [])] if loop[3] else body}
    if condition := re.fullmatch(r"if (.+)", text):
        yes, end = _body(parts, holes)
        no, _ = _body(parts, holes) if end == "else" else ([], "")
        return _condition(condition[1], yes, no)
    raise ValueError(f"a block that is not expected here: {text}")


def _condition(condition: str, yes: Tree, no: Tree) -> Any:
    if new := re.fullmatch(r'([\w.]+) (==|!=) "new"', condition):
        return {"if_new": new[1], "either": [yes, no] if new[2] == "==" else [no, yes]}
    return {"either": [yes, no]}
