"""Which iptables a node's commands are: the alternatives, and what the command in the PATH says of itself."""

from __future__ import annotations

import re
from typing import Literal, TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class Choice(TypedDict):
    """One registered program. `slaves` are the links that go with it (name -> path)."""

    path: str
    priority: int
    slaves: dict[str, str]


class Alternative(TypedDict):
    """One group of alternatives.

    `status` is "auto" (the highest priority wins, also after an upgrade) or "manual". `best` and `value` are paths:
    what auto would choose, and what the link points to now; "" for none. `changed` is when the link was last set, in
    seconds since 1970, 0 where there is no link in /etc/alternatives.
    """

    name: str
    link: str
    status: Literal["auto", "manual"]
    best: str
    value: str
    choices: list[Choice]
    changed: int


class Command(TypedDict):
    """A command as a shell finds it.

    `path` is where, `program` the file behind all links (".../xtables-nft-multi"). `backend` is what it works on, ""
    where it does not say its version; a version before 1.8 knows legacy only, and does not say so.
    """

    name: str
    path: str
    program: str
    version: str
    backend: Literal["nft", "legacy", ""]


class Backends(TypedDict):
    """`groups` are those that the node has; `commands` are iptables and ip6tables, where they are installed."""

    groups: list[Alternative]
    commands: list[Command]


NAMES = ("iptables", "ip6tables", "arptables", "ebtables")


class Alternatives(NodeFact[Backends | None]):
    """The alternatives for iptables, ip6tables, arptables and ebtables, and the backend of the host's own commands.

    Debian has a group for each of the four, RHEL and Fedora one group `iptables`, the others are its slaves.
    "empty" means that the node has no iptables. Nothing is loaded by asking a command for its version.
    Sources: update-alternatives(1) --query, alternatives(8) --display, iptables(8) -V.

    .. code:: python

        {
            "groups": [
                {
                    "name": "iptables", "link": "/usr/sbin/iptables", "status": "auto",
                    "best": "/usr/sbin/iptables-nft", "value": "/usr/sbin/iptables-nft",
                    "choices": [{"path": "/usr/sbin/iptables-legacy", "priority": 10,
                                 "slaves": {"iptables-save": "/usr/sbin/iptables-legacy-save", ...}}, ...],
                    "changed": 1790000000,
                },
                ...
            ],
            "commands": [{"name": "iptables", "path": "/usr/sbin/iptables", "program": "/usr/sbin/xtables-nft-multi",
                          "version": "1.8.9", "backend": "nft"}, ...],
        }
    """

    # RHEL's `update-alternatives` is its `alternatives`, which knows no --query.
    script = rf"""
newline='
'
links=
for name in {" ".join(NAMES)}; do
    [ ! -e "/etc/alternatives/$name" ] && [ ! -L "/etc/alternatives/$name" ] || links="$links /etc/alternatives/$name"
done
[ -z "$links" ] || links=$(stat -c %n=%Y $links 2>/dev/null)
for name in {" ".join(NAMES)}; do
    changed=0
    for link in $links; do
        case $link in "/etc/alternatives/$name="*) changed=${{link#*=}} ;; esac
    done
    if said=$(update-alternatives --query "$name" 2>/dev/null); then
        echo "query $name $changed"
    elif said=$(alternatives --display "$name" 2>/dev/null) && [ -n "$said" ]; then
        echo "display $name $changed"
    else
        continue
    fi
    left=200 IFS=$newline
    set -f
    for line in $said; do
        [ $((left -= 1)) -ge 0 ] || break
        printf '= %s\n' "$line"
    done
    set +f
    unset IFS
done
for name in iptables ip6tables; do
    path=$(command -v "$name") || continue
    echo "command $name $path $(readlink -f "$path")"
    said=$("$path" -V 2>&1)
    printf '= %s\n' "${{said%%"$newline"*}}"
done
"""

    @staticmethod
    @override
    def nothing() -> Backends | None:
        return None

    @override
    def read(self, output: list[str]) -> Backends | None:
        answers: list[tuple[list[str], list[str]]] = []
        for line in filter(None, output):
            if line.startswith("="):
                answers[-1][1].append(line[2:])
            else:
                answers.append((line.split(), []))
        found: Backends = {"groups": [], "commands": []}
        for (what, name, *rest), said in answers:
            if what == "command":
                found["commands"].append(_command(name, rest[0], rest[-1], said[0]))
                continue
            group = _queried(said) if what == "query" else _displayed(name, said)
            group["changed"] = int(rest[0])
            found["groups"].append(group)
        return found if answers else None


_VERSION = re.compile(r"v(\d[\w.]*)(?: \((nf_tables|legacy)\))?")


def _command(name: str, path: str, program: str, said: str) -> Command:
    match = _VERSION.search(said)
    backend: Literal["nft", "legacy", ""] = ""
    if match:
        backend = "nft" if match[2] == "nf_tables" else "legacy"
    return {
        "name": name,
        "path": path,
        "program": program,
        "version": match[1] if match else "",
        "backend": backend,
    }


def _queried(lines: list[str]) -> Alternative:
    """Debian's format: fields, then a paragraph for each choice, with slaves on indented lines."""
    group = _group()
    choice: Choice | None = None
    for line in lines:
        field, _, value = line.partition(": ")
        if line.startswith(" ") and choice is not None:
            slave, _, path = line.strip().partition(" ")
            choice["slaves"][slave] = path
        elif field == "Name":
            group["name"] = value
        elif field == "Link":
            group["link"] = value
        elif field == "Status":
            group["status"] = _status(value)
        elif field == "Best":
            group["best"] = value
        elif field == "Value":
            group["value"] = "" if value == "none" else value
        elif field == "Alternative":
            choice = {"path": value, "priority": 0, "slaves": {}}
            group["choices"].append(choice)
        elif field == "Priority" and choice is not None:
            choice["priority"] = int(value)
    return group


_STATUS = re.compile(r"\S+ - status is (\w+)\.")
_POINTS = re.compile(r" *link currently points to (\S+)")
_CHOICE = re.compile(r"(/\S+) - (?:family \S+ )?priority (-?\d+)")
_SLAVE = re.compile(r" +(?:slave|follower) (\S+): (\S+)")
_BEST = re.compile(r"Current [`'\"]best['\"] version is (\S+)\.")


def _displayed(name: str, lines: list[str]) -> Alternative:
    """The format of chkconfig's alternatives, in its sentences."""
    group = _group()
    group["name"] = name
    for line in lines:
        if match := _STATUS.match(line):
            group["status"] = _status(match[1])
        elif match := _POINTS.match(line):
            group["value"] = match[1]
        elif match := _CHOICE.match(line):
            group["choices"].append({"path": match[1], "priority": int(match[2]), "slaves": {}})
        elif (match := _SLAVE.match(line)) and group["choices"]:
            group["choices"][-1]["slaves"][match[1]] = match[2]
        elif match := _BEST.match(line):
            group["best"] = match[1]
    if not group["choices"]:
        raise ValueError(f"no alternative for {name} in {lines[0] if lines else ''!r}")
    return group


def _group() -> Alternative:
    return {"name": "", "link": "", "status": "auto", "best": "", "value": "", "choices": [], "changed": 0}


def _status(word: str) -> Literal["auto", "manual"]:
    if word not in ("auto", "manual"):
        raise ValueError(f"status of an alternative: {word!r}")
    return "manual" if word == "manual" else "auto"
