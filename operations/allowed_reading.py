"""What an account may run as root that may only look: every script that a diagnosis, a proof or a plan sends.

`operations.restricted_shell` knows them by this. A load test (blast.py) and kubectl on a node are not among them: the
one is a burden, the other one the cluster's administrator.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import Any, TypedDict

from pyinfra.api.command import StringCommand

from facts import counters, history, snapshot
from facts.provision import Provision
from facts.reading import NodeFact
from facts.runs import Runs, UndoPlan
from facts.sysctl_files import SysctlFiles
from operations import restricted_shell, sysctl, wave
from operations.script_patterns import Hole, Tree, of_text
from probes import capture, carry, ping
from probes.capture_filter import Point, begins, expression
from probes.probe import probe


class Known(TypedDict):
    """What one account may run; see `operations.restricted_shell.KNOWN`."""

    may: str
    digests: dict[str, str]
    trees: dict[str, Tree]
    inside: dict[str, Tree]


#: One word to sh, whatever it says: as shlex.quote writes it.
QUOTED = r"(?:[A-Za-z0-9@%+=:,./_-]+|'[^'\n]*'(?:\"'\"'[^'\n]*')*)"
ADDRESS = r"[0-9a-fA-F][0-9a-fA-F.:]{1,44}|::[0-9a-fA-F.:]{0,43}"

RUN = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}"

#: By the name between the at signs of a mark.
_MARKS = {"words": Hole("", QUOTED), "run": Hole("run", RUN)}

_NETNS = r"''|/proc/[0-9]{1,10}/ns/net"
#: What `probes.carry.is_local` makes of an address.
_LOCAL = (
    r":|'grep -q \"\^[0-9a-f]{32} \" /proc/net/if_inet6'"
    r"|'awk \"/\^ \*\[\|\]-- [0-9]{1,3}(?:\[\.\][0-9]{1,3}){3}\\\$/ \{ getline; if \(/32 host LOCAL/\) found = 1 \}"
    r" END \{ exit !found \}\" /proc/net/fib_trie'"
)
#: One byte of a DNS name: escaped what no host's name has, from a space on (dnspython's to_text).
_BYTE = r"[A-Za-z0-9_*-]|\\[.\\]|\\0(?:3[2-9]|[4-9][0-9])|\\1(?:[01][0-9]|2[0-6])"
_TYPE, _CLASS = "|".join(restricted_shell.TYPES), "|".join(restricted_shell.CLASSES)
#: `probes.carry`: a row's fields. What is compared or counted must be a number: bash would evaluate anything else. That
#: its bytes are the question for its name, type and class is seen by the shell.
_ROW = (
    rf"'[0-9]{{1,4}} (?:udp|tcp) (?:{ADDRESS}) [0-9]{{1,5}} [0-9]{{1,4}} [0-9]{{1,8}} [0-9]{{1,5}} (?:[0-9a-f]{{2}})+ "
    rf"(?:(?:(?:{_BYTE}){{1,63}}\.)+|\.) (?:{_TYPE}) (?:{_CLASS})'"
)
_PORT = r"[0-9]{1,5}"
#: Ports, and names, of one capture: more than a diagnosis has, and fewer than would be any port.
_MOST = 64
_INTERFACE = r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,14}"


def reading() -> Known:
    """What looking at a node takes. Nothing of it changes anything there."""
    facts: list[NodeFact[Any]] = [Provision(), Runs(), SysctlFiles(), *snapshot.FACTS.values(), *history.FACTS.values()]
    commands = {type(fact).__name__: fact.command() for fact in facts}
    commands |= {
        "NodeSnapshot": snapshot.NodeSnapshot().command(),
        "NodeCounters": counters.NodeCounters().command(),
        "NodeHistory": history.NodeHistory().command(),
    }
    return {
        "may": "look at this node",
        "digests": {digest(command): name for name, command in commands.items()},
        "trees": {
            "questions": _questions(),
            "captures": _captures(),
            "kernel settings": [
                *of_command(sysctl.Settings().command([])),
                {"each": "names", "body": [" ", {"hole": "", "like": r"[a-z0-9_]+(?:\.[a-z0-9_]+)+"}]},
            ],
            "a plan of the way back": of_text(UndoPlan().command("@run@"), _MARKS),
            # An operation that must not be done says so by a command that fails.
            "a refusal": of_command(wave.refusal("@words@")),
        },
        # By the name of a hole that holds it, quoted.
        "inside": {"asking": _questions()},
    }


def digest(command: str) -> str:
    """By which a script without data is known."""
    return hashlib.sha256(command.encode()).hexdigest()


def of_command(command: StringCommand) -> Tree:
    """The tree of a command as pyinfra sends it."""
    return of_text(str(command.get_raw_value()), _MARKS)


def _questions() -> Tree:
    """`probes.carry`, whatever it asks."""
    begin, end = carry.carry([]).rsplit("\nwait\n", 1)
    before, after = begin.split("'[]'")
    seconds = rf"[1-{carry.MOST_SECONDS // 100 - 1}]?[0-9]{{1,2}}|{carry.MOST_SECONDS}"
    where = [" ", _one(r"[0-9]{1,4}"), " ", _one(_NETNS), " ", _one(_LOCAL), " ", _one(seconds), " "]
    ask = ["\nask", *where, _one(r"[0-9]{1,3} [0-9]{1,9}"), {"each": "rows", "body": [" ", _one(_ROW)]}, " &"]
    arguments = _one(rf"[0-9]{{1,4}} (?:{ADDRESS}) (?:[1-9][0-9]{{0,2}}|1000) [0-9]{{1,2}} [0-9]{{1,3}}")
    rows = {"each": "echoes", "body": [" ", arguments]}
    echo = ["\nwithin", *where, f"sh -c {shlex.quote(ping.SCRIPT)} sh", rows, " &"]
    return [before, _one(QUOTED), after, {"each": "sources", "body": [{"either": [ask, echo]}]}, f"\nwait\n{end}"]


def _captures() -> Tree:
    """`probes.capture`, wherever it captures and whatever it asks meanwhile."""
    number = r"[0-9]{1,4}"
    places = (number, _NETNS, r"[0-9]{1,20}", _INTERFACE, _filter(), r"''|[0-9a-f]{8}|[0-9a-f]{32}")
    start = [part for place in places for part in (" ", _one(place))]
    capture_at = ["    capture", *start, " &"]
    holes: dict[str, Tree] = {
        "POINTS": [_one(QUOTED)],
        "SECONDS": [_one(rf"[1-{capture.MOST_SECONDS // 10 - 1}]?[0-9]|{capture.MOST_SECONDS}")],
        "COUNT": [_one(rf"[1-{capture.MOST_POINTS}]")],
        "ASK": [{"hole": "asking", "like": QUOTED.replace(r"\n", "")}],
        "STARTS": [*capture_at, {"each": "points", "body": ["\n", *capture_at]}],
        "QUESTIONS": [{"hole": "about", "like": r"[0-9a-f]+(?:,[0-9a-f]+)*"}],
        "PORTS": [_one(_some(_PORT, ","))],
    }
    tree: Tree = []
    for number_of, part in enumerate(re.split(r"@([A-Z0-9]+)@", capture.SCRIPT.strip())):
        if number_of % 2:
            tree += holes.get(part) or [capture.FIXED[part]]
        else:
            tree.append(part)
    return tree


def _filter() -> str:
    """`probes.capture_filter`, quoted, whatever the hosts, the ports and the first bytes of names."""
    place: Point = {"interface": "", "role": "uplink", "netns": "", "inode": 0, "host": ""}
    asked = [probe("192.0.2.1", "abc")]
    like = "|".join(re.escape(expression({**place, "host": host}, asked, [65535])) for host in ("", "192.0.2.1"))
    # What has a port stands in parentheses of its own, once for each.
    like = re.sub(r"\\\(([^()]*65535[^()]*)\\\)", lambda match: rf"\({_some(match[1].replace('65535', _PORT))}\)", like)
    name = re.escape(begins("abc"))
    like = like.replace(name, _some(name.replace("0x3414243", "0x[0-9a-f]{1,8}") + "|udp"))
    return f"'(?:{like.replace(re.escape('192.0.2.1'), f'(?:{ADDRESS})')})'"


def _some(like: str, between: str = " or ") -> str:
    return f"(?:{like})(?:{between}(?:{like})){{0,{_MOST - 1}}}"


def _one(like: str) -> dict[str, str]:
    return {"hole": "", "like": like}
