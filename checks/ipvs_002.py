"""The cluster's DNS has a UDP and a TCP service in IPVS.

Without the UDP one, clients get "connection refused" at once; without the TCP one, only answers that do not fit into a
datagram are lost, which looks like a fault of a few names.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services
from models.kube_services import PROTOCOLS

ID = "IPVS-002"
TITLE = "The cluster's DNS has a UDP and a TCP service in IPVS"
OPERATION = "ipvs.resync"


def check(case: Case) -> list[Finding]:
    """One finding for each address of a DNS service that any node knows."""
    if found := guard.ipvs(case):
        return [case.finding(ID, TITLE, *found)]
    ipvs = case.snapshot["ipvs"]["value"]
    findings: list[Finding] = []
    for vip in case.dns_services:
        missing = [name for name in PROTOCOLS if kube_services.servers(case.snapshot, vip, name) is None]
        evidence = [
            f"{one['protocol']} {one['address']}:{one['port']} {one['scheduler']}, {len(one['servers'])} real servers"
            for one in (ipvs["services"] if ipvs else [])
            if one["address"] == vip
        ]
        if not missing:
            findings.append(case.finding(ID, TITLE, Status.PASS, f"{vip}:53 has UDP and TCP", evidence))
            continue
        loaded = "" if ipvs and ipvs["support"] == "loaded" else f" (ip_vs: {ipvs['support'] if ipvs else 'not read'})"
        elsewhere = [
            name
            for name, read in sorted(case.fleet.items())
            if name != case.name
            and read is not None
            and kube_services.known(read)
            and all(kube_services.servers(read, vip, protocol) is not None for protocol in missing)
        ]
        where = f"; {' and '.join(elsewhere)} {'has' if len(elsewhere) == 1 else 'have'} it" if elsewhere else ""
        kinds = " and no ".join(name.upper() for name in missing)
        sentence = f"IPVS has no {kinds} service for {vip}:53{loaded}{where}"
        findings.append(case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION))
    return findings
