"""What a node's connection tracking lost between two reads of its counters, and to which cause.

A packet that loses the race to enter its flow is counted as `insert_failed` and as `drop` (nf_ct_resolve_clash() in
net/netfilter/nf_conntrack_core.c since Linux 5.7); one that finds the table full as `drop` alone.
"""

from __future__ import annotations

from facts.conntrack import ConntrackState
from facts.counters import Counters
from facts.snapshot import Snapshot

#: A node as it was read, or its counters alone; None where it could not be read.
Read = Snapshot | Counters | None

#: Kernels with this counter (5.10) count as `insert_failed` only what was dropped; older ones also count a race that
#: did no harm, and the very old ones do not count the dropped packet as `drop`.
RESOLVED = "clash_resolve"


def drops(before: Read, after: Read) -> int | None:
    """Packets that were dropped for another reason than a lost race, None where either read does not tell."""
    dropped, failed = _grown(before, after, "drop"), _grown(before, after, "insert_failed")
    return None if dropped is None or failed is None else max(0, dropped - failed)


def clashes(before: Read, after: Read) -> int | None:
    """Packets whose flow another packet had entered meanwhile, None where either read does not tell."""
    return _grown(before, after, "insert_failed")


def total(state: ConntrackState, counter: str) -> int:
    """A counter of all CPUs, since boot."""
    return sum(cpu.get(counter, 0) for cpu in state["cpus"])


def _grown(before: Read, after: Read, counter: str) -> int | None:
    first = before["conntrack"]["value"] if before else None
    second = after["conntrack"]["value"] if after else None
    if not first or not second or not first["cpus"] or not second["cpus"]:
        return None
    return total(second, counter) - total(first, counter)
