"""When a node's units, and the processes that serve or carry DNS in its pods, were last started or stopped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypedDict

from typing_extensions import override

from facts.changes import MOST, utc
from facts.reading import NodeFact
from facts.units import NAMES


class Started(TypedDict):
    """`what`: "started", "stopped" or "failed"; `restarts`: by systemd itself since then, 0 for a process."""

    time: str
    what: Literal["started", "stopped", "failed"]
    name: str
    restarts: int


#: Processes that run in pods and serve, forward or carry DNS.
PROCESSES = ("coredns", "cilium-agent", "kube-proxy", "node-cache", "calico-node", "flanneld", "kube-router", "unbound")


class Starts(NodeFact[list[Started]]):
    """When units and the processes of `PROCESSES` were last started. Source: `systemctl show`, ps(1).

    .. code:: python

        [{"time": "2026-11-22T02:12:41Z", "what": "started", "name": "dnsmasq.service", "restarts": 0}]
    """

    # systemctl formats times by its own TZ.
    script = rf"""
now=$(date +%s)
ps -eo etimes=,comm= | awk -v now="$now" '
    $2 ~ /^({"|".join(PROCESSES)})$/ && n++ < {MOST} {{ print "process", now - $1, $2 }}'
[ -d /run/systemd/system ] || exit 0
TZ=UTC systemctl show --no-pager -p Id,LoadState,ActiveState,ActiveEnterTimestamp,InactiveEnterTimestamp,NRestarts \
    {" ".join(f"'{name}'" for name in NAMES)} | sed 's/^/unit /'
"""

    @override
    def read(self, output: list[str]) -> list[Started]:
        found: dict[tuple[str, str], Started] = {}
        said: dict[str, str] = {}
        for line in [*output, "unit "]:
            kind, _, rest = line.partition(" ")
            if kind == "process":
                time, name = rest.split(" ", 1)
                found[utc(time), name] = {"time": utc(time), "what": "started", "name": name, "restarts": 0}
            elif kind == "unit" and rest:
                key, _, value = rest.partition("=")
                said[key] = value
            elif kind == "unit" and said:
                one = _started(said)
                if one:
                    found[one["time"], one["name"]] = one
                said = {}
        return list(found.values())


def _started(said: dict[str, str]) -> Started | None:
    state = said["ActiveState"]
    running = state in ("active", "reloading", "activating")
    stamp = said.get("ActiveEnterTimestamp" if running else "InactiveEnterTimestamp", "")
    if said["LoadState"] == "not-found" or not stamp:
        return None
    # "Sat 2026-11-21 12:00:00 UTC"
    parsed = datetime.strptime(stamp, "%a %Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC)
    what: Literal["started", "stopped", "failed"] = "started" if running else "stopped"
    return {
        "time": utc(parsed.timestamp()),
        "what": "failed" if state == "failed" else what,
        "name": said["Id"],
        "restarts": int(said.get("NRestarts") or 0),
    }
