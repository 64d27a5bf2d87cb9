"""Packets between pods of one bridge pass iptables.

A query to the DNS service may be sent to a pod on the same bridge. Its answer then crosses the bridge only: without
br_netfilter nobody turns the pod's address back into the service's, and the client throws it away.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.pods import host_interface
from models import kube_services, node
from probes.count import asked, lost, sent, summary

ID = "KERNEL-002"
TITLE = "Packets between pods of one bridge pass iptables"
OPERATION = "server.sysctl"

_SYSCTL = "net.bridge.bridge-nf-call-iptables"
_EVIDENCE = 6


def check(case: Case) -> list[Finding]:
    """One finding: warn where it is off, fail where questions of the bridge's pods to the service are lost."""
    if found := guard.kubernetes(case, "interfaces", "routes", "pods", "kernel"):
        return [case.finding(ID, TITLE, *found)]
    bridged = _bridged(case)
    if not bridged:
        return [case.finding(ID, TITLE, Status.PASS, "no pod is attached to a bridge")]
    if kube_services.replaced(case.snapshot):
        return [case.finding(ID, TITLE, Status.SKIP, "Cilium takes the services' packets, not iptables")]
    kernel = case.snapshot["kernel"]["value"]
    module = kernel["modules"].get("br_netfilter", "unknown")
    value = kernel["sysctls"].get(_SYSCTL)
    bridges = ", ".join(sorted(set(bridged.values())))
    evidence = [f"{_SYSCTL} = {value or 'not there'}", f"br_netfilter: {module}", f"pods are on {bridges}"]
    if value is None and not kernel["sysctls"]:
        return [case.finding(ID, TITLE, Status.UNKNOWN, f"{_SYSCTL} was not read", evidence)]
    if value == "1":
        return [case.finding(ID, TITLE, Status.PASS, f"what crosses {bridges} passes iptables", evidence)]
    why = f"{_SYSCTL} is 0" if value else f"br_netfilter is not there ({module})"
    theirs = [
        one
        for one in case.results
        if one["probe"]["source"]["name"] in bridged
        and one["probe"]["destination"] in case.dns_services
        and one["probe"]["protocol"] != "icmp"
        and sent(one)
    ]
    evidence += [f"{asked(one)}: {summary(one)}" for one in theirs][:_EVIDENCE]
    sentence = f"{why}: an answer that crosses {bridges} keeps the pod's address, and its client throws it away"
    if any(map(lost, theirs)):
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    sentence = f"{sentence}, as soon as a CoreDNS pod is on the same bridge"
    return [case.finding(ID, TITLE, Status.WARN, sentence, evidence, OPERATION)]


def _bridged(case: Case) -> dict[str, str]:
    """The bridge of each Kubernetes pod that is attached to one, by the pod's name."""
    interfaces = {one["name"]: one for one in case.snapshot["interfaces"]["value"]}
    found: dict[str, str] = {}
    for asker in node.askers(case.snapshot):
        pod = next(one for one in case.snapshot["pods"]["value"] if one["pid"] == asker.pid)
        link = host_interface(pod, interfaces.values())
        master = interfaces[link]["master"] if link else ""
        if asker.kubernetes and master in interfaces and interfaces[master]["kind"] == "bridge":
            found[asker.name] = master
    return found
