"""The faults that the lab can inject: one module per family, each a tuple of `Fault`."""

from __future__ import annotations

from lab.faults import (
    backends,
    bridged_pods,
    broken_dnsmasq,
    conntrack,
    conntrack_race,
    datapath,
    firewalls,
    foreign_rules,
    interface_filters,
    ipvs,
    kernel_settings,
    kube_proxies,
    losses,
    neighbours,
    networkd,
    other_dnsmasq,
    resolver_loops,
    tools,
)
from lab.faults.fault import MODES, ClusterFault, Fault, Mode
from lab.host import LabError

__all__ = ["CLUSTER_FAULTS", "FAULTS", "MODES", "ClusterFault", "Fault", "choose"]

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for family in (
        interface_filters,
        broken_dnsmasq,
        other_dnsmasq,
        datapath,
        tools,
        firewalls,
        conntrack_race,
        networkd,
        kernel_settings,
        bridged_pods,
        losses,
        resolver_loops,
    )
    for fault in family.FAULTS
}

CLUSTER_FAULTS: dict[str, ClusterFault] = {
    fault.name: fault
    for family in (backends, ipvs, kube_proxies, conntrack, neighbours, foreign_rules)
    for fault in family.FAULTS
}


def choose(name: str, mode: str | None) -> tuple[Fault, Mode | None]:
    """The fault called `name` and the mode to apply it in. Raises LabError if there is no such pair."""
    fault = FAULTS.get(name)
    if fault is None:
        raise LabError(f"no fault {name!r}; `python -m lab list` prints them")
    if mode is None:
        return fault, fault.modes[0] if fault.modes else None
    for known in fault.modes:
        if known == mode:
            return fault, known
    if not fault.modes:
        raise LabError(f"{name} does not depend on how dnsmasq binds: leave --mode out")
    raise LabError(f"{name} cannot be had with {mode}: {fault.unaffected}; use {' or '.join(fault.modes)}")
