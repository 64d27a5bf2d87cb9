"""A new node's dnsmasq will answer pods.

DNSMASQ-001 before the first pod is there: dnsmasq's configuration on disk is tried on the model with the pods of
another node of the cluster, or with those of the usual network plugins.
"""

from __future__ import annotations

from dataclasses import replace

from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from models.joined import GUESSED, OWN, USUAL

ID = "ONBOARD-004"
TITLE = "A new node's dnsmasq will answer pods"
OPERATION = "dnsmasq.interface_policy"


def check(new: Newcomer) -> list[Finding]:
    """One finding per address that serves DNS on this node."""
    case = new.case
    if reason := case.unread():
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    snapshot, whose = new.joined
    if whose == OWN:
        return [case.finding(ID, TITLE, Status.SKIP, "pods run on this node: see DNSMASQ-001")]
    if not case.served:
        if new.reference.serving:
            others = ", ".join(new.reference.serving[:3])
            sentence = f"no dnsmasq serves DNS on this node, as on {others}"
            return [case.finding(ID, TITLE, Status.WARN, sentence)]
        return [case.finding(ID, TITLE, Status.SKIP, "no address of this node serves DNS through its own dnsmasq")]
    as_joined = replace(case, fleet={**case.fleet, case.name: snapshot})
    found: list[Finding] = []
    for vip, instance in case.served:
        if instance is None or instance["error"]:
            sentence = f"what the dnsmasq at {vip} would do is not known: see DNSMASQ-002 and DNSMASQ-003"
            found.append(case.finding(ID, TITLE, Status.UNKNOWN, sentence))
            continue
        forecast = as_joined.forecast(vip, instance)
        if not forecast.start.started:
            sentence = "dnsmasq would not start with its configuration: see DNSMASQ-003"
            found.append(case.finding(ID, TITLE, Status.UNKNOWN, sentence))
            continue
        asked = [need for need, _ in forecast.verdicts if need.required]
        evidence = [f"pods: {whose}", *(str(need) for need in asked)]
        lost = forecast.lost()
        if not lost:
            sentence = f"pods will be answered at {vip} over UDP and TCP ({whose})"
            found.append(case.finding(ID, TITLE, Status.PASS, sentence, evidence))
            continue
        need, verdict = lost[0]
        who = f"{need.query.protocol.upper()} from {need.who} on {need.query.arrival}"
        why = [f"{each} on {each.query.arrival}: {its.outcome}: {its.because}" for each, its in lost]
        if whose == GUESSED and {each.query.arrival for each, _ in lost} < set(USUAL):
            sentence = f"whether pods will be answered at {vip} depends on the network plugin: {who} will not"
            found.append(case.finding(ID, TITLE, Status.UNKNOWN, f"{sentence}: {verdict.because}", why, OPERATION))
        else:
            sentence = f"{who} will get no answer at {vip}: {verdict.because}"
            found.append(case.finding(ID, TITLE, Status.FAIL, sentence, why, OPERATION))
    return found
