"""No rule sends the cluster's DNS to a pod that has gone.

A DNAT in PREROUTING or OUTPUT takes a query before IPVS sees it, from whichever backend it is. Stale ones are the usual
cause of "half of the queries time out while ipvsadm -ln looks right".
"""

from __future__ import annotations

from collections.abc import Iterator

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.netfilter import Backend, Family
from models import kube_services
from models.kube_services import Way

ID = "IPTABLES-003"
TITLE = "No rule sends the cluster's DNS to a pod that has gone"


def check(case: Case) -> list[Finding]:
    """One finding for each backend and family with such rules."""
    if found := guard.rules(case):
        return [case.finding(ID, TITLE, *found)]
    services = case.dns_services
    ways = [way for way in kube_services.ways(case.snapshot) if way.dnat["vip"] in services]
    findings: list[Finding] = []
    if kube_services.gone(case.snapshot):
        findings = _left_behind(case, [way for way in ways if way.dnat["owner"] == "kube"])
        ways = [way for way in ways if way.dnat["owner"] != "kube"]
    for backend, family, here in _by_table(ways):
        shown = [way for way in here if kube_services.leads_to(way)]
        if not all(_targets(case, way) for way in shown):
            sentence = f"{backend} for IPv{family} rewrites DNS queries, and nothing tells which pods answer them now"
            findings.append(case.finding(ID, TITLE, Status.UNKNOWN, sentence, _evidence(here)))
        elif dead := [way for way in shown if kube_services.leads_to(way) not in _targets(case, way)]:
            findings.append(_stale(case, dead))
        elif hidden := [way for way in here if way not in shown]:
            way = hidden[0]
            sentence = (
                f"{backend} for IPv{family} rewrites queries for {way.dnat['vip']}:53, and where to is not in the rule"
                f" as the node's iptables prints it: {way.dnat['rule']['text']}"
            )
            findings.append(case.finding(ID, TITLE, Status.UNKNOWN, sentence, _evidence(hidden)))
        elif kube_services.mode(case.snapshot) == "ipvs" and any(way.dnat["owner"] == "kube" for way in here):
            sentence = (
                f"{backend} for IPv{family} still takes DNS queries before IPVS does; its targets are real servers,"
                " until the next pod moves"
            )
            findings.append(case.finding(ID, TITLE, Status.WARN, sentence, _evidence(here), "netfilter.remove_stale"))
    if findings:
        return findings
    if unread := guard.unread_rules(case):
        return [case.finding(ID, TITLE, *unread)]
    if not services:
        return [case.finding(ID, TITLE, Status.SKIP, "no service of the cluster listens on port 53")]
    sentence = f"{len(ways)} rules rewrite queries for {', '.join(services)}, all to pods that answer them"
    sentence = sentence if ways else f"no rule of either backend takes queries for {', '.join(services)}"
    return [case.finding(ID, TITLE, Status.PASS, sentence, _evidence(ways))]


def _by_table(ways: list[Way]) -> Iterator[tuple[Backend, Family, list[Way]]]:
    for backend, family in dict.fromkeys((way.backend, way.family) for way in ways):
        yield backend, family, [way for way in ways if (way.backend, way.family) == (backend, family)]


def _left_behind(case: Case, ways: list[Way]) -> list[Finding]:
    """What nobody looks after any more. Cilium leaves the node's own packets to it where its socket LB is off."""
    findings: list[Finding] = []
    for backend, family, here in _by_table(ways):
        sentence = (
            f"{backend} for IPv{family} still rewrites queries for {here[0].dnat['vip']}:53, left behind by a"
            " kube-proxy that is gone: Cilium takes the packets before"
        )
        findings.append(case.finding(ID, TITLE, Status.WARN, sentence, _evidence(here)))
    return findings


def _stale(case: Case, dead: list[Way]) -> Finding:
    """kube-proxy's rules before anybody else's: those can be taken away."""
    dead = sorted(dead, key=lambda way: (way.dnat["owner"] != "kube", way.dnat["protocol"] != "udp"))
    way = dead[0]
    ours = way.dnat["owner"] == "kube"
    answering = " and ".join(sorted(_targets(case, way)))
    packets = f", {way.dnat['rule']['packets']} packets so far" if way.dnat["rule"]["packets"] else ""
    sentence = (
        f"{way.backend} for IPv{way.family} sends {way.dnat['vip']}:53 to {way.dnat['to']}, which is none of its real"
        f" servers ({answering}): {way.dnat['rule']['text']}{packets}"
    )
    # kube-proxy itself looks after the rules of its own backend, unless it is in IPVS mode: it has none there then.
    kept_up = kube_services.mode(case.snapshot) == "iptables" and way.backend == kube_services.active(
        case.snapshot, way.family
    )
    operation = "" if not ours else "kube_proxy.restart" if kept_up else "netfilter.remove_stale"
    status = Status.FAIL if ours else Status.WARN
    return case.finding(
        ID, TITLE, status, sentence if ours else f"a foreign rule: {sentence}", _evidence(dead), operation
    )


def _targets(case: Case, way: Way) -> set[str]:
    protocols = [way.dnat["protocol"]] if way.dnat["protocol"] else ["udp", "tcp"]
    return {target for protocol in protocols for target in case.targets(way.dnat["vip"], protocol)}


def _evidence(ways: list[Way]) -> list[str]:
    rules = [(way, rule) for way in ways for rule in (way.dnat["entry"], way.dnat["rule"])]
    return list(dict.fromkeys(f"{way.backend}: {rule['text']} [{rule['packets']} packets]" for way, rule in rules))
