"""All checks, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Callable

from checks import (
    conntrack_001,
    conntrack_002,
    conntrack_003,
    dnsmasq_001,
    dnsmasq_002,
    dnsmasq_003,
    dnsmasq_004,
    firewall_001,
    firewall_002,
    iptables_001,
    iptables_002,
    iptables_003,
    iptables_004,
    iptables_005,
    iptables_006,
    ipvs_001,
    ipvs_002,
    ipvs_003,
    ipvs_004,
    ipvs_005,
    ipvs_006,
    kernel_001,
    kernel_002,
    kernel_003,
    kernel_004,
    kube_proxy_001,
    kube_proxy_002,
    networkd_001,
    resolver_001,
)
from checks.case import Case
from checks.finding import Finding, Status

_DNSMASQ = (dnsmasq_001, dnsmasq_002, dnsmasq_003, dnsmasq_004)
_IPTABLES = (iptables_001, iptables_002, iptables_003, iptables_004, iptables_005, iptables_006)
_IPVS = (ipvs_001, ipvs_002, ipvs_003, ipvs_004, ipvs_005, ipvs_006)
_CONNTRACK = (conntrack_001, conntrack_002, conntrack_003)
_KUBE_PROXY = (kube_proxy_001, kube_proxy_002)
_FIREWALL = (firewall_001, firewall_002)
_KERNEL = (kernel_001, kernel_002, kernel_003, kernel_004)
_NETWORKD = (networkd_001,)
_RESOLVER = (resolver_001,)

#: Every check's module: its ID, its TITLE and its check().
MODULES = (*_DNSMASQ, *_KUBE_PROXY, *_IPTABLES, *_IPVS, *_CONNTRACK, *_FIREWALL, *_KERNEL, *_NETWORKD, *_RESOLVER)
CHECKS: dict[str, Callable[[Case], list[Finding]]] = {module.ID: module.check for module in MODULES}


def judge(case: Case) -> list[Finding]:
    """Every check's findings on one node. What a node sends must stop no check but its own: that one is unknown."""
    return [finding for module in MODULES for finding in _judged(module.ID, module.TITLE, case)]


def _judged(check: str, title: str, case: Case) -> list[Finding]:
    try:
        return CHECKS[check](case)
    except Exception as error:
        return [
            {
                "check": check,
                "title": title,
                "node": case.name,
                "status": Status.UNKNOWN,
                "sentence": f"what was read here cannot be judged: {type(error).__name__}: {error}"[:300],
                "evidence": [],
                "operation": "",
            }
        ]
