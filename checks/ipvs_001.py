"""Queries for the cluster's DNS pass through IPVS.

The direct proof that nothing pre-empts IPVS: so many questions are sent, and so many connections IPVS has counted. +0
means that something takes the packets before it, whatever `ipvsadm -ln` shows.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services
from probes import count
from probes.probe import Result

ID = "IPVS-001"
TITLE = "Queries for the cluster's DNS pass through IPVS"

#: Share of the questions that may be lost on their way, taken by nobody: whether they are is a hop's matter.
_STRAY = 0.02


def check(case: Case) -> list[Finding]:
    """One finding for each address of a DNS service."""
    if found := guard.ipvs(case):
        return [case.finding(ID, TITLE, *found)]
    if kube_services.replaced(case.snapshot):
        return [case.finding(ID, TITLE, Status.SKIP, "Cilium takes the services' packets before IPVS, by design")]
    return [_verdict(case, vip) for vip in case.dns_services]


def _verdict(case: Case, vip: str) -> Finding:
    if kube_services.servers(case.snapshot, vip, "udp") is None:
        return case.finding(ID, TITLE, Status.SKIP, f"IPVS has no UDP service for {vip}: see IPVS-002")
    if not kube_services.holders(case.snapshot, vip):
        return case.finding(ID, TITLE, Status.SKIP, f"{vip} is not an address of the node: see IPVS-005")
    ipvs = case.snapshot["ipvs"]["value"]
    if vip not in case.ipvs_deltas and ipvs and not ipvs["tool"]:
        # /proc/net/ip_vs has no counters, and /proc/net/ip_vs_stats those of all services together.
        sentence = f"nothing counts the connections to {vip}: install ipvsadm on this node"
        return case.finding(ID, TITLE, Status.UNKNOWN, sentence)
    if vip not in case.ipvs_deltas:
        return case.finding(ID, TITLE, Status.UNKNOWN, "nobody has counted IPVS connections while asking")
    sent, counted = case.ipvs_deltas[vip]
    evidence = [f"{vip}:53 UDP: {sent} questions sent, IPVS connections +{counted}"]
    if not sent:
        return case.finding(ID, TITLE, Status.UNKNOWN, f"no question to {vip} could be sent from this node", evidence)
    if counted >= sent * (1 - _STRAY):
        said = f"all {sent}" if counted >= sent else f"{counted} of {sent}"
        return case.finding(ID, TITLE, Status.PASS, f"IPVS has counted {said} questions to {vip}", evidence)
    proxy = case.snapshot["kube_proxy"]["value"]
    own = sum(count.sent(result) for result in case.results if _of_the_node(vip, result))
    if proxy and proxy["cilium"] and own and counted >= own * (1 - _STRAY):
        # Without its replacement of kube-proxy, too (cilium#10651).
        sentence = f"IPVS has counted {counted} questions to {vip}, {own} were the node's own: Cilium takes pods'"
        return case.finding(ID, TITLE, Status.PASS, sentence, evidence)
    ways = [way for way in kube_services.ways(case.snapshot) if way.dnat["vip"] == vip]
    ways.sort(key=lambda way: way.dnat["entry"]["packets"], reverse=True)
    entries = [(way.backend, way.dnat["entry"]) for way in ways]
    evidence += dict.fromkeys(f"{backend}: {rule['text']} [{rule['packets']} packets]" for backend, rule in entries)
    ours = any(way.dnat["owner"] == "kube" for way in ways)
    before = f"live rules in {ways[0].backend} take them" if ways else "something takes them before IPVS"
    if counted:
        sentence = f"IPVS has counted {counted} of {sent} questions to {vip}: others were lost or taken on their way"
        return case.finding(ID, TITLE, Status.WARN, sentence, evidence)
    sentence = f"{sent} questions to {vip} were sent and IPVS has counted none: {before}"
    return case.finding(ID, TITLE, Status.FAIL, sentence, evidence, "netfilter.remove_stale" if ours else "")


def _of_the_node(vip: str, result: Result) -> bool:
    """Whether it asks a service over UDP from the node itself, not from a pod."""
    probe = result["probe"]
    return (probe["destination"], probe["protocol"], probe["source"]["netns"]) == (vip, "udp", "")
