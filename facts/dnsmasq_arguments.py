"""The command line of a dnsmasq process, as getopt_long(3) takes it apart.

Source: `read_opts` and `OPTSTRING` in src/option.c of dnsmasq 2.90. Only here may a keyword be abbreviated.
"""

from collections.abc import Iterator, Mapping, Sequence

from facts.dnsmasq_keywords import KEYWORDS, LETTERS, Keyword, Parameter, letter_takes_parameter
from facts.dnsmasq_lines import KeywordError, LineError

_BAD_COMMAND_LINE = "bad command line options: try --help"


def arguments(argv: Sequence[str], known: Mapping[str, Keyword] = KEYWORDS) -> Iterator[tuple[str, str | None]]:
    """The options of a command line in order, as getopt_long(3) sees them: name and value.

    + known: the keywords, see `dnsmasq_keywords.known_to`

    Raises `LineError` at the place where dnsmasq gives up, which is after it has read what came before, and
    `KeywordError` where a later one may go on.
    """
    rest = list(argv[1:])
    operands: list[str] = []
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            operands += rest
            break
        if argument.startswith("--"):
            yield _long(argument[2:], rest, known)
        elif argument.startswith("-") and argument != "-":
            yield from _short(argument[1:], rest)
        else:
            operands.append(argument)
    # An empty argument is what an unset variable leaves in a start script.
    if any(operand.strip(" \t\n\v\f\r") for operand in operands):
        raise LineError("junk found in command line")


def _long(argument: str, rest: list[str], known: Mapping[str, Keyword]) -> tuple[str, str | None]:
    given, equals, attached = argument.partition("=")
    word = _abbreviated(given, known)
    if word.parameter is Parameter.NONE and equals:
        raise KeywordError(_BAD_COMMAND_LINE)
    if equals:
        return word.means, attached
    if word.parameter is not Parameter.REQUIRED:
        return word.means, None
    if not rest:
        raise KeywordError(_BAD_COMMAND_LINE)
    return word.means, rest.pop(0)


def _abbreviated(given: str, known: Mapping[str, Keyword]) -> Keyword:
    if given in known:
        return known[given]
    found = [word for name, word in known.items() if name.startswith(given)]
    # Several names for one and the same option are not ambiguous.
    if len({(word.means, word.parameter) for word in found}) != 1:
        raise KeywordError(_BAD_COMMAND_LINE)
    return found[0]


def _short(letters: str, rest: list[str]) -> Iterator[tuple[str, str | None]]:
    for at, letter in enumerate(letters, start=1):
        if letter not in LETTERS:
            raise KeywordError(_BAD_COMMAND_LINE)
        if not letter_takes_parameter(letter):
            yield LETTERS[letter].name, None
            continue
        if at < len(letters):
            yield LETTERS[letter].name, letters[at:]
        elif rest:
            yield LETTERS[letter].name, rest.pop(0)
        else:
            raise KeywordError(_BAD_COMMAND_LINE)
        return
