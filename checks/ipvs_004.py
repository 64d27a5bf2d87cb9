"""Every real server of the cluster's DNS is alive.

Each real server gets its share of the queries: one dead among two is half of them lost. kube-proxy removes a pod that
has gone within seconds, unless its sync is broken. A TCP service keeps one with weight 0 for the connections that it
still has: that is normal.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services
from models.kube_services import PROTOCOLS
from probes.count import asked, received, sent, summary
from probes.denied import denied

ID = "IPVS-004"
TITLE = "Every real server of the cluster's DNS is alive"
OPERATION = "ipvs.resync"


def check(case: Case) -> list[Finding]:
    """One finding for each address and protocol that IPVS has here."""
    if not guard.rules(case) and kube_services.gone(case.snapshot) and (found := _left_behind(case)):
        return found
    return guard.each_service(case, ID, TITLE, _verdict)


def _left_behind(case: Case) -> list[Finding]:
    """What nobody looks after any more. Cilium leaves the node's own packets to it where its socket LB is off."""
    findings: list[Finding] = []
    for vip in case.dns_services:
        taking = {
            kube_services.end(server)
            for protocol in PROTOCOLS
            for server in kube_services.servers(case.snapshot, vip, protocol) or []
            if server["weight"]
        }
        if taking:
            sentence = (
                f"IPVS still has {vip}:53, with {' and '.join(sorted(taking))}, left behind by a kube-proxy that is"
                " gone: Cilium takes the packets before"
            )
            findings.append(case.finding(ID, TITLE, Status.WARN, sentence))
    return findings


def _verdict(case: Case, vip: str, protocol: str) -> Finding:
    servers = kube_services.servers(case.snapshot, vip, protocol) or []
    which = f"{protocol.upper()} {vip}:53"
    evidence = [
        f"{protocol} {vip}:53 -> {kube_services.end(server)} weight {server['weight']},"
        f" {server['active']}+{server['inactive']} connections"
        for server in servers
    ]
    # UDP has no connection that a real server could be kept for.
    taking = {kube_services.end(server): server for server in servers if server["weight"] or protocol == "udp"}
    peers = kube_services.peers(case.name, case.fleet, vip, protocol)
    if vip in case.endpoints:
        known, source, sure = set(case.endpoints[vip]), "the EndpointSlices name no such endpoint", True
    else:
        known = {end for ends in peers.values() for end in ends}
        source, sure = f"none of {' and '.join(sorted(peers))} has it", len(peers) > 1
    # A pod that a policy keeps from the service is kept from its real servers too, and tells nothing about these.
    kept_out = {
        result["probe"]["source"]["address"]
        for result in denied([result for result in case.results if result not in case.strays], {})
        if result["probe"]["destination"] == vip
    }
    for end, server in taking.items():
        tried = [
            result
            for result in case.results
            if result["probe"]["destination"] == server["address"]
            and result["probe"]["protocol"] == protocol
            and result["probe"]["source"]["address"] not in kept_out
        ]
        if sum(map(sent, tried)) and not sum(map(received, tried)):
            sentence = f"{which} sends queries to {end}, which does not answer"
            evidence += [f"{asked(result)}: {summary(result)}" for result in tried]
            # What others have as well, kube-proxy would write again.
            return case.finding(ID, TITLE, Status.FAIL, sentence, evidence, "" if end in known else OPERATION)
    # Without the EndpointSlices it may be this node's own: internalTrafficPolicy and hints give each node others.
    alive = case.answered if vip in case.endpoints else case.alive
    dead = sorted(end for end in set(taking) - known if not alive(end))
    if dead and (peers or vip in case.endpoints):
        sentence = f"{which} sends queries to {' and '.join(dead)}: {source}"
        return case.finding(ID, TITLE, Status.FAIL if sure else Status.WARN, sentence, evidence, OPERATION)
    return case.finding(ID, TITLE, Status.PASS, f"{which} has no dead real server among {len(taking)}", evidence)
