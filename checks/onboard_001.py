"""A new node has the cluster's iptables backend, and nothing of an earlier cluster.

A node that joins with the other backend works until kube-proxy's rules change: its iptables then cleans up in one
backend what still stands in the other. The backend is the policy's, else that of most other nodes.
"""

from __future__ import annotations

from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from facts.alternatives import Alternative, Backends
from models import kube_backends
from models.stale_rules import other, stale

ID = "ONBOARD-001"
TITLE = "A new node has the cluster's iptables backend, and nothing of an earlier cluster"
OPERATION = "alternatives.backend"


def check(new: Newcomer) -> list[Finding]:
    """One finding. Works without Kubernetes on the node."""
    case, wanted = new.case, new.reference.backend
    for what in ("alternatives", "rulesets"):
        if case.snapshot[what]["state"] not in ("value", "empty", "tool missing"):
            return [case.finding(ID, TITLE, Status.UNKNOWN, case.unread((what,)))]
    found = case.snapshot["alternatives"]["value"]
    if found is None or not found["commands"]:
        return [case.finding(ID, TITLE, Status.SKIP, "no iptables on this node: see ONBOARD-006")]
    evidence = [f"{each['name']}: {each['path']} -> {each['program']}, {each['version']}" for each in found["commands"]]
    evidence += [f"{each['name']}: {each['status']}, {each['value']}" for each in _groups(found)]
    said = ", ".join(f"{each['name']} is {each['backend'] or 'of an unknown backend'}" for each in found["commands"])
    backends = {each["backend"] for each in found["commands"]}
    if wanted is not None and backends != {wanted}:
        sentence = f"{said}; the cluster has {wanted} ({new.reference.backend_because})"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if len(backends) > 1:
        return [case.finding(ID, TITLE, Status.FAIL, said, evidence, OPERATION)]
    if wanted is None and new.reference.judges_backend:
        sentence = f"{said}; what the cluster has is not known: {new.reference.backend_because}"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, evidence)]
    if unread := kube_backends.unread(case.snapshot):
        return [case.finding(ID, TITLE, Status.UNKNOWN, unread, evidence)]
    if wanted is not None and (left := stale(case.snapshot["rulesets"]["value"], other(wanted))):
        sentence = f"{other(wanted)} holds rules of Kubernetes: {left[0]}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, list(map(str, left)), "netfilter.remove_stale")]
    if auto := [each["name"] for each in _groups(found) if each["status"] == "auto"]:
        sentence = f"{said}, but {' and '.join(auto)} only by priority: an upgrade may change that"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence, OPERATION)]
    whose = new.reference.backend_because if wanted else "the policy leaves that alone"
    return [case.finding(ID, TITLE, Status.PASS, f"{said}: {whose}", evidence)]


def _groups(found: Backends) -> list[Alternative]:
    names = {command["name"] for command in found["commands"]}
    return [group for group in found["groups"] if group["name"] in names]
