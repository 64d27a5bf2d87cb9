"""The node forwards what its pods ask.

A query from a pod to a resolver elsewhere passes FORWARD, and so does its answer, in both backends of iptables and in
every native nftables chain there. A policy DROP (docker sets it, a hardening does) with no rule that accepts the pods
loses all of it.
"""

from __future__ import annotations

from typing import NamedTuple

from checks.case import Case
from checks.crossing import crossing
from checks.finding import Finding, Status
from checks.firewall_002 import TABLE
from facts.pods import host_interface
from models import node, passage
from models.node import Asker
from models.passage import Packet, Passage
from probes.count import asked, lost, sent, summary

ID = "FIREWALL-001"
TITLE = "The node forwards what its pods ask"

#: Pods whose packets are followed; those of one node differ little.
_PODS = 5
_EVIDENCE = 8


class _Found(NamedTuple):
    where: str
    who: str
    passage: Passage


def check(case: Case) -> list[Finding]:
    """One finding: the rules tell whether they drop, and the questions that crossed them whether that is so."""
    if reason := case.unread(("interfaces", "routes", "pods")) or _unread_rules(case):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    pods = [asker for asker in node.askers(case.snapshot) if asker.kubernetes][:_PODS]
    if not pods:
        return [case.finding(ID, TITLE, Status.SKIP, "no pod on this node")]
    found = [_Found(*one) for pod in pods for one in _ways(case, pod)]
    asking_across = crossing(case)
    evidence = [f"{one.where}: {one.who}: {one.passage.decided}" for one in found if one.passage.verdict != "passes"]
    evidence = list(dict.fromkeys(evidence))[:_EVIDENCE]
    evidence += [f"{asked(result)}: {summary(result)}" for result in asking_across][:_EVIDENCE]
    asking, losing = sum(map(sent, asking_across)), sum(map(lost, asking_across))
    for verdict, status in (("dropped", Status.FAIL), ("maybe", Status.WARN)):
        drop = next((one for one in found if one.passage.verdict == verdict), None)
        if drop is None:
            continue
        if losing < asking and (verdict == "maybe" or not losing):
            passed = f"{asking - losing} of {asking} questions passed"
            sentence = f"{drop.where} may drop what pods send ({drop.passage.decided}), and {passed}"
            return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
        means = "drops" if verdict == "dropped" else "may drop"
        sentence = f"{drop.where} {means} {drop.who}: {drop.passage.decided}"
        if asking and losing == asking:
            sentence += f"; all {asking} questions that pass it are lost"
            return [case.finding(ID, TITLE, status, sentence, evidence)]
        if verdict == "dropped":
            return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
        if not asking:
            return [case.finding(ID, TITLE, Status.UNKNOWN, f"{sentence}; nothing was asked across it", evidence)]
    sentence = "no rule of FORWARD in either backend, and no native chain, drops what pods send"
    return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]


def _unread_rules(case: Case) -> str:
    """A node without iptables, or without nft, has no rules of it."""
    for what in ("rulesets", "nft_hooks"):
        reason = case.unread((what,))
        if reason and not reason.startswith(f"{what}: tool missing"):
            return reason
    return ""


def _ways(case: Case, pod: Asker) -> list[tuple[str, str, Passage]]:
    """Each ruleset's and native chain's word on the pod's query and on its answer."""
    links = _links(case, pod)
    family = 6 if ":" in pod.address else 4
    found: list[tuple[str, str, Passage]] = []
    for ruleset in case.snapshot["rulesets"]["value"]:
        if ruleset["family"] != family:
            continue
        for who, new in ((f"what {pod.name} asks", True), (f"the answers to {pod.name}", False)):
            where = f"FORWARD of {ruleset['backend']} for IPv{family}"
            found.append((where, who, passage.through(ruleset, Packet(pod.address, links, new))))
    for hook in case.snapshot["nft_hooks"]["value"]:
        applies = {"inet": True, "ip": family == 4, "ip6": family == 6}.get(hook["table"].split()[0], False)
        # firewalld's are FIREWALL-002's.
        if hook["hook"] == "forward" and applies and hook["table"] != TABLE:
            found.append(("nftables", f"what {pod.name} asks", passage.native(hook)))
    return found


def _links(case: Case, pod: Asker) -> list[str]:
    """Where the pod's packets may enter: a bridge, or its own link and the one that its route names."""
    interfaces = case.snapshot["interfaces"]["value"]
    if any(one["name"] == pod.arrival and one["kind"] == "bridge" for one in interfaces):
        return [pod.arrival]
    own = next((host_interface(one, interfaces) for one in case.snapshot["pods"]["value"] if one["pid"] == pod.pid), "")
    return sorted({pod.arrival, own} - {""})
