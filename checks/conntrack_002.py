"""No DNS flow is pinned to a pod that has gone.

conntrack remembers for each UDP flow which pod it was sent to, and keeps to it whatever the rules say now. A client
that asks from the same port again and again never gets an answer.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.addresses import of_endpoint
from facts.conntrack import Flows
from facts.ipvs import stale_connections
from models import kube_services

ID = "CONNTRACK-002"
TITLE = "No DNS flow is pinned to a pod that has gone"
OPERATION = "conntrack.flush"


def check(case: Case) -> list[Finding]:
    """One finding."""
    if found := guard.rules(case):
        return [case.finding(ID, TITLE, *found)]
    if reason := case.unread(("dns_flows",)):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    services = case.dns_services
    if not services:
        return [case.finding(ID, TITLE, Status.SKIP, "no service of the cluster listens on port 53")]
    if kube_services.gone(case.snapshot):
        sentence = "no kube-proxy on this node: Cilium takes the services' packets, and keeps their flows itself"
        return [case.finding(ID, TITLE, Status.SKIP, sentence)]
    if blind := [vip for vip in services if not case.targets(vip, "udp")]:
        if kube_services.mode(case.snapshot) not in ("ipvs", "iptables"):
            sentence = f"no rules of kube-proxy that are read, and no EndpointSlices, for {', '.join(blind)}"
            return [case.finding(ID, TITLE, Status.SKIP, sentence)]
        return [case.finding(ID, TITLE, Status.UNKNOWN, f"nothing tells which pods answer {', '.join(blind)} now")]
    flows = [one for one in case.snapshot["dns_flows"]["value"] if one["destination"] in services]
    stale = sorted((one for one in flows if _stale(case, one)), key=lambda one: one["unreplied"], reverse=True)
    evidence = [
        f"{one['protocol']} {one['destination']}:53 answered by {one['reply_source']}: {one['flows']} flows,"
        f" {one['unreplied']} unreplied, for up to {one['longest']} s"
        for one in stale or flows
    ]
    if not stale:
        sentence = (
            f"{sum(one['flows'] for one in flows)} flows to {', '.join(services)}, all with pods that answer them"
        )
        return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
    unreplied = sum(one["unreplied"] for one in stale)
    sentence = (
        f"{sum(one['flows'] for one in stale)} UDP flows to {stale[0]['destination']} are pinned to"
        f" {' and '.join(sorted({one['reply_source'] for one in stale}))}, which is no real server; {unreplied} of them"
        " have no answer"
    )
    # Flows of a pod that has just gone did get their answers, and live on for up to two minutes.
    return [case.finding(ID, TITLE, Status.FAIL if unreplied else Status.WARN, sentence, evidence, OPERATION)]


def _stale(case: Case, flow: Flows) -> bool:
    if flow["protocol"] != "udp" or flow["reply_source"] == flow["destination"]:
        return False
    ipvs = case.snapshot["ipvs"]["value"]
    # Where IPVS itself keeps the flow, deleting it from conntrack changes nothing: see IPVS-006.
    kept = {(one["virtual"], one["destination"]) for one in stale_connections(ipvs)} if ipvs else set()
    # A pod that any node still sends to is alive as far as anybody knows: that this one lacks it is IPVS-003.
    peers = kube_services.peers(case.name, case.fleet, flow["destination"], "udp").values()
    targets = case.targets(flow["destination"], "udp").union(*peers)
    alive = {of_endpoint(target)[0] for target in targets}
    return flow["reply_source"] not in alive and (flow["destination"], flow["reply_source"]) not in kept
