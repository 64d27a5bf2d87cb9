"""UDP datagrams that a node has received, and those that it threw away because their checksum was wrong."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class UdpState(TypedDict):
    """Both families together, since the node's start, in its own network namespace: a tunnel's packets count here."""

    received: int
    bad_checksums: int


class Udp(NodeFact[UdpState | None]):
    """The node's UDP counters. The kernel's log tells of wrong checksums only where it was told to.

    Source: /proc/net/snmp and /proc/net/snmp6, `InDatagrams` and `InCsumErrors` (proc(5), net/ipv4/proc.c).

    .. code:: python

        {"received": 48211, "bad_checksums": 0}
    """

    script = r"""
[ -r /proc/net/snmp ] || { echo "/proc/net/snmp is not readable" >&2; exit 77; }
grep -hs -e '^Udp:' -e '^Udp6InDatagrams' -e '^Udp6InCsumErrors' /proc/net/snmp /proc/net/snmp6 || true
"""

    @staticmethod
    @override
    def nothing() -> UdpState | None:
        return None

    @override
    def read(self, output: list[str]) -> UdpState | None:
        (_, *names), (_, *values), *more = [line.split() for line in output if line.strip()]
        counted = dict(zip(names, map(int, values), strict=True)) | {name: int(value) for name, value in more}
        return {
            "received": counted["InDatagrams"] + counted.get("Udp6InDatagrams", 0),
            "bad_checksums": counted["InCsumErrors"] + counted.get("Udp6InCsumErrors", 0),
        }
