"""kube-proxy's rules are in one backend only.

A packet passes the rules of both backends. kube-proxy cleans up only in the backend that its own iptables works on:
what it wrote to the other one stays as it was on that day, sends packets to pods that have gone, and no restart takes
it away.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.netfilter import Backend
from models import kube_backends, kube_services
from models.kube_backends import FAMILIES

ID = "IPTABLES-002"
TITLE = "kube-proxy's rules are in one backend only"
OPERATION = "netfilter.remove_stale"


def check(case: Case) -> list[Finding]:
    """One finding for each family in which kube-proxy's chains are in both backends."""
    if found := guard.rules(case):
        return [case.finding(ID, TITLE, *found)]
    findings: list[Finding] = []
    where: list[str] = []
    for family in FAMILIES:
        both = kube_backends.rulesets(case.snapshot, family)
        hooks = {name: kube_backends.proxy_hooks(one) for name, one in both.items()}
        chains = {name: kube_backends.proxy_chains(one) for name, one in both.items()}
        where += [f"{name} for IPv{family}" for name in both if hooks[name]]
        if not all(chains.get(name) for name in kube_backends.BACKENDS):
            continue
        active = kube_services.active(case.snapshot, family)
        stale: Backend = "legacy" if active == "nft" else "nft"
        both_hold = f"kube-proxy's chains are in both backends for IPv{family}"
        live = f"{kube_backends.kube_rules(both[stale])} rules of {stale}"
        evidence = [f"{name}: {hook['text']} [{hook['packets']} packets]" for name in both for hook in hooks[name]]
        evidence += [f"{name}: {', '.join(chains[name])}" for name in both]
        if hooks[stale]:
            sentence = f"{both_hold}: it writes to {active}, and {live} still apply"
            findings.append(case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION))
        else:
            sentence = f"{both_hold}: no hook leads to the {live} any more"
            findings.append(case.finding(ID, TITLE, Status.WARN, sentence, evidence, OPERATION))
    if findings:
        return findings
    if unread := guard.unread_rules(case):
        return [case.finding(ID, TITLE, *unread)]
    sentence = (
        f"kube-proxy's rules are in {' and '.join(where)}" if where else "no rules of kube-proxy in either backend"
    )
    return [case.finding(ID, TITLE, Status.PASS, sentence, _others(case))]


def _others(case: Case) -> list[str]:
    """Both backends may well be in use, by different owners."""
    return [
        f"{one['backend']} for IPv{one['family']}: rules of {', '.join(kube_backends.others(one))}"
        for one in case.snapshot["rulesets"]["value"]
        if kube_backends.others(one)
    ]
