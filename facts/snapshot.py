"""Every fact of a node in one SSH exec, kept per host until a change makes it stale.

Facts are never cached by pyinfra and each costs an exec of its own; thirty of them on a hundred nodes took 11.7 s at
50 ms round trip where one exec took 0.39 s (measured with pyinfra 3.10.0).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, cast

import gevent.event
from pyinfra.api.facts import FactBase, get_fact
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from typing_extensions import override

from facts.alternatives import Alternatives, Backends
from facts.conntrack import Conntrack, ConntrackState, DnsFlows, Flows, KernelLine, KernelLog
from facts.coredns import CoreDns, CoreDnsProcesses
from facts.dnsmasq import Dnsmasq, DnsmasqInstances
from facts.image_iptables import ImageIptables
from facts.interfaces import Interface, Interfaces
from facts.ipvs import Ipvs, IpvsTable
from facts.kernel import Kernel, KernelState
from facts.kube_proxy import KubeProxy
from facts.kube_proxy_answer import Proxy
from facts.neighbours import Neighbours, NeighbourTables
from facts.netfilter import KubeRules, NftTables, Ruleset
from facts.networkd import Networkd, NetworkdState
from facts.nft_hooks import Hook, NftHooks
from facts.parallel import each
from facts.pods import Pod, Pods
from facts.reading import NodeFact, Reading, commands, readings
from facts.resolver import Resolv, ResolvConf, Resolved, ResolvedState
from facts.routes import Routes, RoutingTables
from facts.sockets import ListeningSockets, Socket
from facts.system import System, SystemState
from facts.udp import Udp, UdpState
from facts.units import Unit, Units

#: Seconds that a whole snapshot may take where the policy does not say (node_deadline).
TIMEOUT = 90


class Snapshot(TypedDict):
    """One node at one moment; plain JSON, so that it can be saved and judged later, offline."""

    system: Reading[SystemState | None]
    interfaces: Reading[list[Interface]]
    routes: Reading[RoutingTables | None]
    sockets: Reading[list[Socket]]
    resolv_conf: Reading[Resolv | None]
    resolved: Reading[ResolvedState | None]
    units: Reading[list[Unit]]
    pods: Reading[list[Pod]]
    dnsmasq: Reading[Dnsmasq]
    coredns: Reading[list[CoreDns]]
    kernel: Reading[KernelState]
    kernel_log: Reading[list[KernelLine]]
    kube_proxy: Reading[Proxy | None]
    alternatives: Reading[Backends | None]
    rulesets: Reading[list[Ruleset]]
    nft_tables: Reading[list[str]]
    nft_hooks: Reading[list[Hook]]
    ipvs: Reading[IpvsTable | None]
    conntrack: Reading[ConntrackState | None]
    dns_flows: Reading[list[Flows]]
    udp: Reading[UdpState | None]
    neighbours: Reading[list[Neighbours]]
    networkd: Reading[NetworkdState | None]
    image_iptables: Reading[str]


FACTS: dict[str, NodeFact[Any]] = {
    "system": System(),
    "interfaces": Interfaces(),
    "routes": Routes(),
    "sockets": ListeningSockets(),
    "resolv_conf": ResolvConf(),
    "resolved": Resolved(),
    "units": Units(),
    "pods": Pods(),
    "dnsmasq": DnsmasqInstances(),
    "coredns": CoreDnsProcesses(),
    "kernel": Kernel(),
    "kernel_log": KernelLog(),
    "kube_proxy": KubeProxy(),
    "alternatives": Alternatives(),
    "rulesets": KubeRules(),
    "nft_tables": NftTables(),
    "nft_hooks": NftHooks(),
    "ipvs": Ipvs(),
    "conntrack": Conntrack(),
    "dns_flows": DnsFlows(),
    "udp": Udp(),
    "neighbours": NeighbourTables(),
    "networkd": Networkd(),
    "image_iptables": ImageIptables(),
}


class NodeSnapshot(FactBase[Snapshot]):
    """All facts of the node in one exec.

    .. code:: python

        {"system": {"state": "value", "value": {...}, "detail": ""},
         "sockets": {"state": "tool missing", "value": [], "detail": "sh: 1: ss: not found"}, ...}
    """

    @override
    def command(self) -> str:
        return commands(FACTS.values())

    @override
    def process(self, output: list[str]) -> Snapshot:
        return cast(Snapshot, readings(FACTS, output))


_taken: dict[Host, gevent.event.AsyncResult] = {}


def of(host: Host) -> Snapshot | None:
    """The host's snapshot, read from the node the first time; None where the node could not be read."""
    if host not in _taken:
        _taken[host] = gevent.event.AsyncResult()
        _taken[host].set(_take(host))
    return cast("Snapshot | None", _taken[host].get())


def active(inventory: Inventory) -> list[Host]:
    """The hosts that are reached and wanted, in the inventory's order (pyinfra keeps them in a set)."""
    reached = set(inventory.get_active_hosts())
    return [host for host in inventory if host in reached]


def forget(host: Host) -> None:
    """What was read of this host is stale: the next `of` reads it again."""
    _taken.pop(host, None)


def fleet(hosts: Iterable[Host]) -> dict[str, Snapshot | None]:
    """Every host's snapshot by host name, read in parallel."""
    return each(hosts, of)


def know(elsewhere: Mapping[str, Snapshot | None]) -> None:
    """What was read from other machines, of nodes that this run does not reach: they belong to its fleet."""
    _elsewhere.update(elsewhere)


def everyone(inventory: Inventory) -> dict[str, Snapshot | None]:
    """The fleet: the hosts that are reached, as they are now, and those that other machines have read."""
    return _elsewhere | fleet(active(inventory))


_elsewhere: dict[str, Snapshot | None] = {}


def deadline(host: Host) -> int:
    """Seconds that the host has to answer one command that reads."""
    return int(host.data.get("node_deadline", TIMEOUT))


def late(host: Host) -> bool:
    """Whether the host had not told all when its time was over."""
    return host in _late


_late: set[Host] = set()


def _take(host: Host) -> Snapshot | None:
    seconds, began = deadline(host), time.monotonic()
    try:
        read = get_fact(host.state, host, NodeSnapshot, kwargs={"_timeout": seconds}, apply_failed_hosts=False)
    except Exception as error:
        host.log(f"could not be read: {error}")
        return None
    # pyinfra says of a command that took too long what it says of one that failed.
    (_late.add if read is None and time.monotonic() - began >= seconds else _late.discard)(host)
    return cast("Snapshot | None", read)
