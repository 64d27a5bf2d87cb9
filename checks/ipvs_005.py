"""The cluster's DNS address is an address of the node.

IPVS sees a packet only when the kernel takes it for its own: kube-proxy puts each service's address on kube-ipvs0.
Without it the packet follows the default route and leaves the node; every query times out.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services

ID = "IPVS-005"
TITLE = "The cluster's DNS address is an address of the node"
OPERATION = "ipvs.resync"


def check(case: Case) -> list[Finding]:
    """One finding for each address of a DNS service."""
    if found := guard.ipvs(case):
        return [case.finding(ID, TITLE, *found)]
    if reason := case.unread(("interfaces",)):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    ipvs = case.snapshot["ipvs"]["value"]
    assert ipvs is not None, "guarded"
    findings: list[Finding] = []
    for vip in case.dns_services:
        on = kube_services.holders(case.snapshot, vip)
        evidence = [f"kube-ipvs0: {' '.join(ipvs['addresses'])}" if ipvs["device"] else "there is no kube-ipvs0"]
        if on:
            findings.append(case.finding(ID, TITLE, Status.PASS, f"{vip} is on {', '.join(on)}", evidence))
        else:
            where = "kube-ipvs0" if ipvs["device"] else "any interface, and there is no kube-ipvs0"
            sentence = f"{vip} is not on {where}: its packets leave the node by the default route"
            findings.append(case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION))
    return findings
