"""IPVS has all real servers of the cluster's DNS.

A node whose kube-proxy hangs keeps the real servers of that day: it misses those that came later, and sends all queries
to the few that it has.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services

ID = "IPVS-003"
TITLE = "IPVS has all real servers of the cluster's DNS"
OPERATION = "ipvs.resync"


def check(case: Case) -> list[Finding]:
    """One finding for each address and protocol that IPVS has here."""
    return guard.each_service(case, ID, TITLE, _verdict)


def _verdict(case: Case, vip: str, protocol: str) -> Finding:
    servers = kube_services.servers(case.snapshot, vip, protocol) or []
    own = {kube_services.end(server) for server in servers if server["weight"]}
    peers = kube_services.peers(case.name, case.fleet, vip, protocol)
    which = f"{protocol.upper()} {vip}:53"
    evidence = [
        f"{name}: {' '.join(sorted(ends)) or 'none'}" for name, ends in sorted({**peers, case.name: own}.items())
    ]
    if vip in case.endpoints:
        named = set(case.endpoints[vip])
        # Two nodes with ready endpoints, and none in common, are given them by topology (see below).
        apart = own <= named and any(ends and ends <= named and ends.isdisjoint(own) for ends in peers.values())
        missing = set[str]() if apart else named - own
        sure, source = True, "the EndpointSlices name"
        evidence.append(f"EndpointSlices: {' '.join(sorted(case.endpoints[vip]))}")
    else:
        # What a single other node has may be a dead one that is left over there: that is IPVS-004 of that node.
        everywhere = sorted({end for ends in peers.values() for end in ends})
        most = {end for end in everywhere if sum(end in ends for ends in peers.values()) * 2 > len(peers)}
        # A node with others than most has those of its zone (topology hints), or its own (internalTrafficPolicy:
        # Local): one that has missed a change would have some of theirs, or dead ones.
        missing = set[str]() if own.isdisjoint(most) and all(map(case.alive, own)) else most - own
        sure, source = len(peers) > 1, "most other nodes have"
    if not own and vip in case.endpoints and not case.endpoints[vip]:
        # kube-proxy is right, and restarting it on every node would only take what else it has.
        sentence = f"{which} has no real server, since the EndpointSlices name no endpoint that is ready"
        return case.finding(ID, TITLE, Status.FAIL, sentence, evidence)
    if not own:
        sentence = f"{which} has no real server that takes connections"
        return case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)
    if missing and sure:
        sentence = f"{which} lacks {' and '.join(sorted(missing))}, which {source}"
        return case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)
    if missing:
        sentence = (
            f"{which} lacks {' and '.join(sorted(missing))}, which {next(iter(peers))} has: one of the two is wrong"
        )
        return case.finding(ID, TITLE, Status.WARN, sentence, evidence, OPERATION)
    if vip not in case.endpoints and not peers:
        sentence = f"{which} has {len(own)} real servers, and there is nothing to compare them with"
        return case.finding(ID, TITLE, Status.PASS, sentence, evidence)
    return case.finding(ID, TITLE, Status.PASS, f"{which} has all its {len(own)} real servers", evidence)
