"""Text from nodes, made harmless: what a report shows cannot move the cursor, turn the line around or hide itself.

Host names, file lines and log lines are a node's words: anybody who can write a DNS name into a log can write there.
Each format escapes its own syntax after this.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

#: Characters of one line that are shown; the JSON report has all of them.
LINE = 500
#: Lines of one piece of evidence that are shown.
LINES = 40
#: Control, format (turned around, of no width), surrogate (undecodable bytes), private, unassigned; line ends.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def line(text: str, most: int = LINE) -> str:
    """One line: white space becomes a space, what cannot be seen is written as an escape, and a huge line is cut."""
    shown = "".join(map(_visible, text[: most + 1].strip()))
    return shown if len(text) <= most else f"{shown[:most]}... ({len(text) - most} more characters)"


def command(text: str) -> str:
    """One line, whole however long it is: it is there to be copied, and cut it would be another command."""
    return line(text, len(text))


def lines(text: str, most: int = LINES) -> list[str]:
    """Text of several lines; indentation stays."""
    cut = text.splitlines()
    found = [" " * (len(one) - len(one.lstrip(" "))) + line(one) for one in cut[:most]]
    return found if len(cut) <= most else [*found, f"... ({len(cut) - most} more lines)"]


def evidence(texts: Sequence[str], most: int = LINES) -> list[str]:
    """Every line of all pieces of evidence, cut after so many."""
    found = [one for text in texts[: most + 1] for one in lines(text)]
    left = len(found) - most + max(0, len(texts) - most - 1)
    return found if len(found) <= most else [*found[:most], f"... ({left} more lines)"]


def several(names: Sequence[str], most: int = 6) -> str:
    """`node-0, node-1 and 990 more`."""
    shown = ", ".join(line(name, 80) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def visible(text: str) -> str:
    """The text with everything that cannot be seen written as an escape, white space but the blank too."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _visible(character: str) -> str:
    if character in "\t\n\r\v\f":
        return " "
    return character if unicodedata.category(character) not in _HIDDEN else _escaped(character)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
