"""A snapshot that is read fact by fact, one exec for each, as plain pyinfra does it."""

from __future__ import annotations

from typing import Any, cast

from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host

from facts import snapshot
from facts.snapshot import FACTS, TIMEOUT, Snapshot


def read_apart() -> None:
    """From now on every snapshot of this process is read so."""
    snapshot._take = _take


def _take(host: Host) -> Snapshot | None:
    limits: Any = {"_timeout": TIMEOUT}
    read = {
        name: get_fact(host.state, host, type(fact), kwargs=limits, apply_failed_hosts=False)
        for name, fact in FACTS.items()
    }
    return cast(Snapshot, read)
