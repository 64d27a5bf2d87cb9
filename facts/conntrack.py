"""Connection tracking: how full its table is, what it dropped, and where it keeps DNS flows pinned to.

Reading loads nothing: the counters and flows are those of /proc, and conntrack(8) is asked only where the kernel has
no such file and nf_conntrack_netlink is there already.
"""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.addresses import ip_address
from facts.reading import NodeFact, Reading


class ConntrackState(TypedDict):
    """`count` and `maximum` are flows: of the node's own network namespace, and of all together.

    `cpus` has one object of counters for each CPU, since boot: `drop`, `insert_failed`, `early_drop` ... A full table
    shows as a growing `drop`, rarely as a count near the maximum. It is empty where the kernel does not tell.
    """

    count: int
    maximum: int
    cpus: list[dict[str, int]]


class KernelLine(TypedDict):
    """Lines of the kernel's log that tell the same: how many, and the last one, with its time in seconds since boot."""

    about: str
    times: int
    last: str


class Flows(TypedDict):
    """DNS flows that went to one address and are answered by another one.

    `destination` is whom the client asked (a VIP), `reply_source` who is to answer; they differ after a DNAT. Both are
    as `ipaddress` writes them. `unreplied` of the `flows` have not seen an answer. `longest` is the largest of their
    remaining lives, in seconds.
    """

    family: int
    protocol: str
    destination: str
    reply_source: str
    flows: int
    unreplied: int
    longest: int


#: What `DnsFlows` says beside its flows where the kernel tells them, and nothing on the node could delete one.
NO_TOOL = "conntrack not found: it is what deletes flows"

# Defines `can_ask`: whether conntrack(8) is there, and loads no module.
_ASK = r"""
[ "${euid:-$(id -u)}" = 0 ] || { echo "only root sees connections" >&2; exit 77; }
can_ask() {
    command -v conntrack >/dev/null ||
        { echo "conntrack not found, and the kernel has no file for it" >&2; return 127; }
    [ ! -e /proc/modules ] || [ -d /sys/module/nf_conntrack_netlink ] ||
        grep -qs '/nf_conntrack_netlink\.ko' "/lib/modules/$(uname -r)/modules.builtin" ||
        { echo "conntrack would load nf_conntrack_netlink, and the kernel has no file for it" >&2; return 1; }
}
tracked=/proc/sys/net/netfilter
[ -r $tracked/nf_conntrack_count ] || exit 0
"""


class Conntrack(NodeFact[ConntrackState | None]):
    """Size and counters of the table. "empty" means that nothing is tracked: the module is not loaded.

    Source: /proc/sys/net/netfilter, /proc/net/stat/nf_conntrack, conntrack(8) -S.

    .. code:: python

        {"count": 10, "maximum": 131072, "cpus": [{"found": 2, "invalid": 7, "insert_failed": 0, "drop": 604, ...}]}
    """

    script = rf"""{_ASK}
# Not `read`: dash asks for single bytes, and of a number in /proc/sys the kernel gives the first one only.
echo "table" $(cat $tracked/nf_conntrack_count $tracked/nf_conntrack_max)
if [ -r /proc/net/stat/nf_conntrack ]; then sed 's/^/proc /' /proc/net/stat/nf_conntrack
elif can_ask; then conntrack -S | sed 's/^/tool /'
fi
"""

    @staticmethod
    @override
    def nothing() -> ConntrackState | None:
        return None

    @override
    def read(self, output: list[str]) -> ConntrackState | None:
        lines = [line.split() for line in output if line.strip()]
        if not lines:
            return None
        cpus = [
            {name: int(value) for name, _, value in (word.partition("=") for word in words) if name != "cpu"}
            for what, *words in lines
            if what == "tool"
        ]
        # The kernel's names, in conntrack(8)'s spelling.
        names, *counters = [words for what, *words in lines if what == "proc"] or [[]]
        names = [{"clashres": "clash_resolve"}.get(name, name) for name in names]
        cpus += [
            {name: int(value, 16) for name, value in zip(names, values, strict=False) if name != "entries"}
            for values in counters
        ]
        return {"count": int(lines[0][1]), "maximum": int(lines[0][2]), "cpus": cpus}


#: Destinations with different answering ends.
MOST_FLOWS = 500


class DnsFlows(NodeFact[list[Flows]]):
    """The tracked flows to port 53, summed up on the node. A section of its own: a full table takes its time.

    Source: /proc/net/nf_conntrack (net/netfilter/nf_conntrack_standalone.c), conntrack(8) -L.

    .. code:: python

        [{"family": 4, "protocol": "udp", "destination": "10.32.0.10", "reply_source": "10.244.9.99",
          "flows": 6, "unreplied": 6, "longest": 29}]

    The reading's detail has `NO_TOOL` where flows can be read and not be deleted.
    """

    limit = 20

    # Both notations have the original direction first: src dst sport dport, then the same of the reply. The time left
    # stands behind the protocol's number.
    script = rf"""{_ASK}
[ -r /proc/net/nf_conntrack ] || can_ask || exit $?
command -v conntrack >/dev/null || echo "{NO_TOOL}" >&2
if [ -r /proc/net/nf_conntrack ]; then cat /proc/net/nf_conntrack
else
    conntrack -L -f ipv4 -o extended
    conntrack -L -f ipv6 -o extended
fi | awk '
    / dport=53 / {{
        n = src = 0
        for (i = 5; i <= NF; i++) {{
            if ($i ~ /^src=/) {{ if (++n == 2) answering = substr($i, 5) }}
            else if ($i ~ /^dst=/) {{ if (n == 1) asked = substr($i, 5) }}
            else if ($i ~ /^dport=/ && n == 1 && $i != "dport=53") next
        }}
        flow = $1 " " $3 " " asked " " answering
        if (!(flow in flows)) order[++count] = flow
        flows[flow]++
        if (index($0, "[UNREPLIED]")) unreplied[flow]++
        if ($5 + 0 > longest[flow]) longest[flow] = $5 + 0
    }}
    END {{
        for (i = 1; i <= count && i <= {MOST_FLOWS}; i++) {{
            flow = order[i]
            print flow, flows[flow], unreplied[flow] + 0, longest[flow] + 0
        }}
        if (count > {MOST_FLOWS}) print "truncated: {MOST_FLOWS} of " count " destinations" > "/dev/stderr"
    }}'
"""

    @override
    def read(self, output: list[str]) -> list[Flows]:
        found: list[Flows] = []
        for line in filter(None, output):
            family, protocol, asked, answering, flows, unreplied, longest = line.split()
            found.append(
                {
                    "family": {"ipv4": 4, "ipv6": 6}[family],
                    "protocol": protocol,
                    # The kernel's file has an IPv6 address in full; whom they are compared with has it short.
                    "destination": str(ip_address(asked)),
                    "reply_source": str(ip_address(answering)),
                    "flows": int(flows),
                    "unreplied": int(unreplied),
                    "longest": int(longest),
                }
            )
        return found


def not_deletable(reading: Reading[list[Flows]]) -> str:
    """Why the flows of `DnsFlows` cannot be deleted; "" where nothing is known that speaks against it."""
    if reading["state"] not in ("value", "empty"):
        return f"its tracked flows are not known: {reading['state']}: {reading['detail']}"
    return NO_TOOL if NO_TOOL in reading["detail"].splitlines() else ""


#: What the kernel says when packets are lost on the node itself, and the word for it here.
COMPLAINTS = (
    ("conntrack table full", "nf_conntrack: table full"),
    ("neighbour table overflow", "neighbou?r table overflow"),
    ("bad UDP checksum", "UDP: bad checksum"),
)
_COUNT = "\n    ".join(
    f'/{pattern}/ {{ times["{about}"]++; last["{about}"] = substr($0, 1, 300) }}' for about, pattern in COMPLAINTS
)


class KernelLog(NodeFact[list[KernelLine]]):
    """What the kernel's log says about lost packets, as far back as its ring reaches. Source: dmesg(1).

    .. code:: python

        [{"about": "conntrack table full", "times": 4,
          "last": "[ 1182.125725] nf_conntrack: nf_conntrack: table full, dropping packet"}]
    """

    script = rf"""
log=$(dmesg) || exit $?
printf '%s\n' "$log" | awk '
    {_COUNT}
    END {{ for (about in times) print times[about] "\t" about "\t" last[about] }}'
"""

    @override
    def read(self, output: list[str]) -> list[KernelLine]:
        found: list[KernelLine] = []
        for line in filter(None, output):
            times, about, last = line.split("\t", 2)
            found.append({"about": about, "times": int(times), "last": last})
        return sorted(found, key=lambda line: line["about"])
