"""Why a check of the cluster's services does not apply to a node, or cannot be made: what each of them asks first."""

from __future__ import annotations

from collections.abc import Callable

from checks.case import Case
from checks.finding import Finding, Status
from models import kube_backends, kube_services
from models.kube_services import PROTOCOLS

Guard = tuple[Status, str]


def kubernetes(case: Case, *needed: str) -> Guard | None:
    """A node of a cluster, whose sections are read."""
    if reason := case.unread(("kube_proxy",)):
        return Status.UNKNOWN, reason
    if case.snapshot["kube_proxy"]["value"] is None:
        return Status.SKIP, "no Kubernetes on this node: neither kube-proxy, nor a kubelet, nor Cilium"
    if reason := case.unread(needed):
        return Status.UNKNOWN, reason
    return None


def rules(case: Case) -> Guard | None:
    """A node of a cluster, whose iptables rules are read; not every one of them has to be readable."""
    return kubernetes(case, "rulesets", "alternatives", "nft_tables", "ipvs")


def unread_rules(case: Case) -> Guard | None:
    """Rules that could not be read may hold what was not found in the others."""
    reason = kube_backends.unread(case.snapshot)
    return (Status.UNKNOWN, reason) if reason else None


def ipvs(case: Case) -> Guard | None:
    """A node whose kube-proxy works, or ought to work, in IPVS mode, in a cluster with a DNS service."""
    if guard := rules(case):
        return guard
    if kube_services.gone(case.snapshot):
        return Status.SKIP, "no kube-proxy on this node: Cilium takes the services' packets before IPVS, by design"
    mode = kube_services.mode(case.snapshot)
    if mode != "ipvs":
        return Status.SKIP, f"kube-proxy is in {mode} mode" if mode else "no kube-proxy and no IPVS on this node"
    if not case.dns_services:
        return Status.SKIP, "no service of the cluster listens on port 53"
    return None


def each_service(case: Case, check: str, title: str, verdict: Callable[[Case, str, str], Finding]) -> list[Finding]:
    """What a check says of each address and protocol that IPVS has here, or why it says nothing.

    + verdict: given the case, the service's address, and "udp" or "tcp"
    """
    if found := ipvs(case):
        return [case.finding(check, title, *found)]
    findings = [
        verdict(case, vip, protocol)
        for vip in case.dns_services
        for protocol in PROTOCOLS
        if kube_services.servers(case.snapshot, vip, protocol) is not None
    ]
    return findings or [case.finding(check, title, Status.SKIP, "IPVS has no DNS service here: see IPVS-002")]
