"""What a node's kernel has complained of, and since when."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.changes import utc
from facts.conntrack import COMPLAINTS
from facts.reading import NodeFact


class KernelComplaint(TypedDict):
    """Lines of the kernel's log that say the same: when the first and the last one came."""

    about: str
    times: int
    first: str
    last: str
    line: str


_KERNEL = (
    *COMPLAINTS,
    ("out of memory, a process was killed", "Out of memory: Killed process|Memory cgroup out of memory: Killed"),
    ("a link went down", "link status definitely down|NIC Link is Down|Lost carrier"),
    ("SYN flooding", "possible SYN flooding"),
)
_FIND = "\n    ".join(f'/{pattern}/ {{ seen("{about}") }}' for about, pattern in _KERNEL)


class KernelComplaints(NodeFact[list[KernelComplaint]]):
    """What the kernel has complained of, as far back as its ring reaches, with times. Source: dmesg(1).

    The ring holds seconds since the boot; they are counted back from now, and drift by as much as the clock was set.

    .. code:: python

        [{"about": "conntrack table full", "times": 4, "first": "2026-11-22T02:40:11Z", "last": "2026-11-22T02:41:00Z",
          "line": "nf_conntrack: nf_conntrack: table full, dropping packet"}]
    """

    script = rf"""
log=$(dmesg) || exit $?
read -r up rest </proc/uptime
printf '%s\n' "$log" | awk -v base="$(date +%s)" -v up="$up" '
    function seen(about) {{
        if (!match($0, /^\[ *[0-9]+\.[0-9]+\] /)) return
        time = int(base - up + substr($0, 2, RLENGTH - 3))
        if (!(about in times)) first[about] = time
        times[about]++
        last[about] = time
        line[about] = substr($0, RLENGTH + 1, 300)
    }}
    {_FIND}
    END {{ for (about in times) print times[about] "\t" first[about] "\t" last[about] "\t" about "\t" line[about] }}'
"""

    @override
    def read(self, output: list[str]) -> list[KernelComplaint]:
        found: list[KernelComplaint] = []
        for entry in filter(None, output):
            times, first, last, about, line = entry.split("\t", 4)
            found.append({"about": about, "times": int(times), "first": utc(first), "last": utc(last), "line": line})
        return sorted(found, key=lambda one: one["first"])
