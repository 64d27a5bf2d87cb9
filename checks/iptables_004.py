"""The kubelet's hints are in its backend only.

A kube-proxy in a container finds the kubelet's backend by the chains KUBE-IPTABLES-HINT and KUBE-KUBELET-CANARY. The
kubelet makes them where its iptables works and never deletes them: one that stays in nft after a change to legacy, in
IPv6 alone too, and kube-proxy chooses nft at its next start.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_backends
from models.kube_backends import BACKENDS, FAMILIES

ID = "IPTABLES-004"
TITLE = "The kubelet's hints are in its backend only"
OPERATION = "netfilter.remove_stale"


def check(case: Case) -> list[Finding]:
    """One finding: fail where a kube-proxy in a container would choose wrongly, warn where none asks for hints."""
    if found := guard.rules(case):
        return [case.finding(ID, TITLE, *found)]
    hinted = {
        (one["backend"], one["family"]): kube_backends.hints(one)
        for one in case.snapshot["rulesets"]["value"]
        if kube_backends.hints(one)
    }
    evidence = [
        f"{backend} for IPv{family}: mangle/{', mangle/'.join(chains)}" for (backend, family), chains in hinted.items()
    ]
    host = {family: kube_backends.host(case.snapshot, family) for family in FAMILIES}
    if len({backend for backend, _ in hinted}) < 2:
        if unread := guard.unread_rules(case):
            return [case.finding(ID, TITLE, *unread, evidence)]
        only = next((backend for backend, _ in hinted), "")
        sentence = f"the kubelet's hints are in {only} only" if only else "there are no hints of a kubelet"
        return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
    if any(host[family] is None for _, family in hinted):
        sentence = "hints are in both backends, and no iptables command of the host tells which are the kubelet's"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, evidence)]
    stale = [(backend, family) for backend, family in hinted if backend != host[family]]
    if not stale:
        sentence = "the kubelet's hints are where iptables and ip6tables of the host work"
        return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
    names = ", ".join(f"{hinted[key][0]} in {key[0]} for IPv{key[1]}" for key in stale)
    right = host[4] or host[6]
    choice = kube_backends.wrapper_choice(hinted)
    proxy = case.snapshot["kube_proxy"]["value"]
    asks = proxy is not None and kube_backends.containerised(proxy) and choice != right
    assert right in BACKENDS
    sentence = f"stale: {names}, while the kubelet works on {right}" + (
        f": a kube-proxy in a container would choose {choice} at its next start"
        if choice != right
        else ": a kube-proxy in a container still chooses rightly"
    )
    return [case.finding(ID, TITLE, Status.FAIL if asks else Status.WARN, sentence, evidence, OPERATION)]
