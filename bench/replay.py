"""What a recorded run of dnsmend did on each node, for others to do: the same scripts, byte for byte."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

from bench.fleet import Fleet
from bench.recorded import Exec
from facts import counters, snapshot
from facts.reading import commands

#: A pod's network namespace in a question: after a node was healed its process is another one.
_NAMESPACE = re.compile(r"/proc/(\d+)/ns/net")
#: Begins each script that asks (probes.carry), and is in no other one.
_ASKS = "@dns probes"


def write(fleet: Fleet, execs: Sequence[Exec], now: Mapping[str, Mapping[str, str]]) -> None:
    """
    Write for OpenSSH each node's command lines, and for Ansible each node's variables.

    + execs: of dnsmend's run on this fleet; now: by node, the process ids that have become of those recorded
    """
    for part in ("lines", "out", "host_vars", "group_vars"):
        (fleet.folder / part).mkdir(exist_ok=True)
    (fleet.folder / "names").write_text("\n".join(fleet.names) + "\n")
    for name in fleet.names:
        mine = sorted((one for one in execs if one["node"] == name), key=lambda one: one["began"])
        moved = now.get(name, {})
        (fleet.folder / "lines" / name).write_text("\n".join(["set -e", *lines(mine, moved)]) + "\n")
        asks = [_moved(one["script"], moved) for one in mine if _ASKS in one["script"]]
        (fleet.folder / "host_vars" / f"{name}.yml").write_text(_variables({"asks": asks}))
    shared: dict[str, object] = {
        "sections": {name: fact.script for name, fact in snapshot.FACTS.items()},
        "counters": commands(counters.FACTS.values()),
    }
    (fleet.folder / "group_vars" / "nodes.yml").write_text(_variables(shared))


def lines(execs: Sequence[Exec], now: Mapping[str, str]) -> list[str]:
    """One node's command lines in their order. What comes twice in a row is one: to read again is dnsmend's affair."""
    found: list[str] = []
    for one in execs:
        line = _moved(one["line"], now)
        line = f"printf %s {shlex.quote(one['given'])} | {line}" if one["given"] else f"{line} </dev/null"
        if line not in found[-1:]:
            found.append(line)
    return found


def _moved(text: str, now: Mapping[str, str]) -> str:
    return _NAMESPACE.sub(lambda match: f"/proc/{now.get(match[1], match[1])}/ns/net", text)


def _variables(values: Mapping[str, object]) -> str:
    """YAML that Ansible takes as it stands: shell scripts hold what its templates would read as theirs."""
    return "".join(f"{key}: {_unsafe(value)}\n" for key, value in values.items())


def _unsafe(value: object) -> str:
    # A JSON string is a YAML one.
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_unsafe(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_unsafe, value)) + "]"
    return f"!unsafe {json.dumps(value)}"
