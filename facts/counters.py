"""What a node counts: read again after the questions, in one SSH exec that costs a small part of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict, cast

from pyinfra.api.facts import FactBase, get_fact
from pyinfra.api.host import Host
from typing_extensions import override

from facts.conntrack import Conntrack, ConntrackState
from facts.ipvs import Ipvs, IpvsTable
from facts.parallel import each
from facts.reading import NodeFact, Reading, commands, readings
from facts.snapshot import deadline
from facts.udp import Udp, UdpState


class Counters(TypedDict):
    """The sections of a snapshot that count packets and connections, under its names."""

    ipvs: Reading[IpvsTable | None]
    conntrack: Reading[ConntrackState | None]
    udp: Reading[UdpState | None]


FACTS: dict[str, NodeFact[Any]] = {"ipvs": Ipvs(), "conntrack": Conntrack(), "udp": Udp()}


class NodeCounters(FactBase[Counters]):
    """The counters of IPVS, of connection tracking and of UDP in one exec.

    .. code:: python

        {"ipvs": {"state": "value", "value": {...}, "detail": ""}, "conntrack": {...}, "udp": {...}}
    """

    @override
    def command(self) -> str:
        return commands(FACTS.values())

    @override
    def process(self, output: list[str]) -> Counters:
        return cast(Counters, readings(FACTS, output))


def fleet(hosts: Iterable[Host]) -> dict[str, Counters | None]:
    """Every host's counters by host name, read in parallel and never kept; None where a node could not be read."""
    return each(hosts, _read)


def _read(host: Host) -> Counters | None:
    try:
        read = get_fact(host.state, host, NodeCounters, kwargs={"_timeout": deadline(host)}, apply_failed_hosts=False)
    except Exception as error:
        host.log(f"its counters could not be read: {error}")
        return None
    return cast("Counters | None", read)
