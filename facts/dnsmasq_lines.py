"""One line of a dnsmasq file: quotes, comments, the keyword and its value, and what is wrong with it.

dnsmasq reads bytes into a buffer of fixed size and hides what stands in quotes behind control characters, so that later
splitting at commas and spaces leaves it alone. Line numbers and errors follow from that, so it is done the same way
here. Source: `read_file`, `hide_meta`, `split_chr` and `one_opt` in src/option.c of dnsmasq 2.90.
"""

from collections.abc import Iterator, Mapping

from facts.dnsmasq_keywords import KEYWORDS, Keyword, Parameter

# fgets(buffer, MAXDNAME): the rest of a longer line counts as a line of its own.
_LONGEST_LINE = 1024

# A character's position is the control character that it hides as; some sit at their own code, and stay.
_HIDDEN = "\000123456 \b\t\n78\r90abcdefABCDE\033F:,."
_HIDE = {ord(char): code for code, char in enumerate(_HIDDEN)}
_REVEAL = dict(enumerate(_HIDDEN))
_ESCAPES = {"t": "\t", "n": "\n", "e": "\033", "b": "\b", "r": "\r", '"': '"', "\\": "\\"}
_SPACE = " \t\n\v\f\r"

QUOTED_COMMA = chr(_HIDDEN.index(","))
"""Stands for a comma inside quotes in an option's value, which is not where the value is split."""


class LineError(Exception):
    """A line that dnsmasq refuses; the message is dnsmasq's own, without the place."""


class KeywordError(LineError):
    """One that it refuses for its keyword: a later dnsmasq may take it."""


def lines(content: str) -> Iterator[tuple[int, str]]:
    """The lines of a file as dnsmasq counts them: number, from 1, and bytes as Latin-1 text."""
    number = 0
    for whole in content.encode("utf-8", "surrogateescape").decode("latin-1").split("\n"):
        # The newline counts: one that does not fit is a line of its own.
        for start in range(0, len(whole) + 1, _LONGEST_LINE):
            number += 1
            yield number, whole[start : start + _LONGEST_LINE].split("\0")[0]


def parse_line(line: str, known: Mapping[str, Keyword] = KEYWORDS) -> tuple[str, str | None] | None:
    """The keyword, by the name that dnsmasq treats it as, and the raw value of a line; None for an empty line.

    + known: the keywords, see `dnsmasq_keywords.known_to`

    A comma inside quotes comes back as `QUOTED_COMMA`. Raises `KeywordError` for an unknown keyword, a missing or
    extraneous parameter, and `LineError` for an open quote; the value itself is not looked at.
    """
    text = _unquote(line).strip(" ")
    if not text:
        return None
    keyword, equals, value = text.partition("=")
    word = known.get(keyword.rstrip(" "))
    if word is None:
        raise KeywordError("bad option")
    if word.parameter is Parameter.NONE and equals:
        raise KeywordError("extraneous parameter")
    if word.parameter is Parameter.REQUIRED and not equals:
        raise KeywordError("missing parameter")
    return word.means, _reveal(value.lstrip(" ")) if equals else None


def _unquote(line: str) -> str:
    kept: list[str] = []
    after_space = True
    at = 0
    while at < len(line):
        if line[at] == '"':
            at, quoted = _quoted(line, at + 1)
            kept.append(quoted)
            # What follows a closing quote is taken as it stands, even another quote.
            if at == len(line):
                break
        if line[at] in _SPACE:
            kept.append(" ")
            after_space = True
        elif after_space and line[at] == "#":
            break
        else:
            kept.append(line[at])
            after_space = False
        at += 1
    return "".join(kept)


def _quoted(line: str, at: int) -> tuple[int, str]:
    kept: list[str] = []
    while at < len(line) and line[at] != '"':
        char = line[at]
        if char == "\\" and line[at + 1 : at + 2] in _ESCAPES:
            at += 1
            char = _ESCAPES[line[at]]
        kept.append(char.translate(_HIDE))
        at += 1
    if at == len(line):
        raise LineError('missing "')
    return at + 1, "".join(kept)


def _reveal(value: str) -> str:
    shown = "".join(char if char == QUOTED_COMMA else char.translate(_REVEAL) for char in value)
    return shown.encode("latin-1").decode("utf-8", "surrogateescape")


def split_value(value: str | None) -> list[str]:
    """The parts of a list value: split at commas outside quotes, without the spaces around them.

    + value: as in `Option`; None gives an empty list, "" one empty part, because `interface=` is an entry too
    """
    if value is None:
        return []
    first, *others = value.split(",")
    parts = [first, *(part.lstrip(" ") for part in others)]
    parts[:-1] = [part.rstrip(" ") for part in parts[:-1]]
    return [part.replace(QUOTED_COMMA, ",") for part in parts]
