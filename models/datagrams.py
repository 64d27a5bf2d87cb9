"""How many UDP datagrams a node threw away between two reads of its counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from facts.counters import Counters
from facts.snapshot import Snapshot


def bad_checksums(before: Snapshot | None, after: Snapshot | Counters | None) -> int | None:
    """Those with a wrong checksum, None where either read does not tell."""
    # A snapshot of an earlier version has no such section.
    reads = [cast(Mapping[str, Any], read or {}).get("udp", {}).get("value") for read in (before, after)]
    first, second = reads
    return second["bad_checksums"] - first["bad_checksums"] if first and second else None
