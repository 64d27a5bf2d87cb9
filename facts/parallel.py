"""The same from many hosts at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import gevent.pool
from pyinfra.api.host import Host

T = TypeVar("T")


def each(hosts: Iterable[Host], ask: Callable[[Host], T]) -> dict[str, T]:
    """What `ask` says of each host, by host name, as many at a time as the run may (pyinfra's --parallel)."""
    hosts = list(hosts)
    if not hosts:
        return {}
    pool = gevent.pool.Pool(max(1, min(len(hosts), hosts[0].state.config.PARALLEL)))
    return dict(zip((host.name for host in hosts), pool.map(ask, hosts), strict=True))
