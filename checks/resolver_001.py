"""No resolver asks itself, not even through others.

dnsmasq that asks systemd-resolved's stub, which asks dnsmasq; two dnsmasqs that name each other; a CoreDNS pod that was
given the node's own stub file as resolv.conf, where 127.0.0.53 is the pod itself: what none of them knows goes round
until it is given up. Found from the configuration; the probes show what it costs.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from models import resolver_loops
from models.listed import listed
from models.resolver_loops import Loop
from models.resolvers import Endpoint

ID = "RESOLVER-001"
TITLE = "No resolver asks itself, not even through others"

_READ = ("interfaces", "routes", "sockets", "pods", "dnsmasq", "resolv_conf", "resolved")


def check(case: Case) -> list[Finding]:
    """One finding per circle that the node takes part in."""
    if reason := case.unread(_READ):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    fleet = case.resolvers
    findings = [_finding(case, loop) for loop in resolver_loops.loops(fleet, case.name)]
    stubs = resolver_loops.stubs_in_pods(fleet, case.name)
    if stubs:
        place, address = next(iter(stubs.items()))
        more = f", and so have {len(stubs) - 1} others" if len(stubs) > 1 else ""
        sentence = f"{place.source} has nameserver {address} in its resolv.conf, which is the pod itself there{more}"
        evidence = [f"{each}: nameserver {named}" for each, named in stubs.items()]
        findings.append(case.finding(ID, TITLE, Status.FAIL, sentence, evidence))
    if findings:
        return findings
    if broken := next((one for _, one in case.served if one and one["error"]), None):
        sentence = f"what {broken['unit'] or 'dnsmasq'} asks is not known: see DNSMASQ-002"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence)]
    names = [str(resolver) for resolver in fleet.resolvers_of(case.name)]
    if not names:
        return [case.finding(ID, TITLE, Status.SKIP, "no resolver on this node")]
    return [case.finding(ID, TITLE, Status.PASS, f"what {listed(names)} asks does not lead back to it", names)]


def _finding(case: Case, loop: Loop) -> Finding:
    domain = f" for {loop.domain}" if loop.domain else ""
    evidence = [f"{each}: {because}" for each, because in zip(loop.chain, loop.because, strict=True)]
    if loop.harmless:
        sentence = f"{loop.chain[0]} has itself among its servers{domain}, which it ignores: {loop.because[0]}"
        return case.finding(ID, TITLE, Status.WARN, sentence, evidence)
    if len(loop.chain) == 1:
        what = "the pod itself there" if isinstance(loop.chain[0], Endpoint) else "an address of its own"
        sentence = f"{loop.chain[0]} asks itself{domain}: {loop.because[0]}, which is {what}"
    else:
        sentence = f"questions{domain} go round: {loop}: {'; '.join(loop.because)}"
    return case.finding(ID, TITLE, Status.FAIL, sentence, evidence)
