"""The kernel's neighbour tables (ARP, and NDP for IPv6): how full they are, and how often an entry found no room."""

from __future__ import annotations

from typing import Literal, TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class Neighbours(TypedDict):
    """The table of one family. It is one for all network namespaces: those of the pods fill it too.

    `limit` is gc_thresh3; `overflows` counts since boot the entries that were not made, None where the kernel (before
    4.4) does not count them.
    """

    family: Literal[4, 6]
    entries: int
    limit: int
    overflows: int | None


class NeighbourTables(NodeFact[list[Neighbours]]):
    """Entries and limit of both neighbour tables. "empty" in a container: the kernel shows them to the machine only.

    Sources: /proc/net/stat/arp_cache and ndisc_cache (neigh_stat_seq_show() in net/core/neighbour.c),
    /proc/sys/net/ipv4/neigh/default/gc_thresh3.

    .. code:: python

        [{"family": 4, "entries": 113, "limit": 1024, "overflows": 0}, {"family": 6, ...}]
    """

    script = r"""
for family in 4 6; do
    table=/proc/net/stat/arp_cache limit=/proc/sys/net/ipv4/neigh/default/gc_thresh3
    [ $family = 4 ] || table=/proc/net/stat/ndisc_cache limit=/proc/sys/net/ipv6/neigh/default/gc_thresh3
    [ -r $table ] && [ -r $limit ] || continue
    echo "table $family $(cat $limit)"
    head -n 1025 $table
done
"""

    @override
    def read(self, output: list[str]) -> list[Neighbours]:
        found: list[Neighbours] = []
        names: list[str] = []
        for words in (line.split() for line in output if line.strip()):
            if words[0] == "table":
                family: Literal[4, 6] = 6 if words[1] == "6" else 4
                found.append({"family": family, "entries": 0, "limit": int(words[2]), "overflows": None})
            elif words[0] == "entries":
                names = words
            else:
                # A line for each CPU, in hexadecimal; the number of entries is the same in all of them.
                cpu = dict(zip(names, (int(word, 16) for word in words), strict=False))
                found[-1]["entries"] = cpu["entries"]
                if "table_fulls" in cpu:
                    found[-1]["overflows"] = (found[-1]["overflows"] or 0) + cpu["table_fulls"]
        return found
