"""No rule stands in its table many times.

A kubelet, kube-proxy or network plugin that does not find its own rule again adds it with each sync: iptables-nft 1.8.1
and 1.8.2, and some later ones, say that it is not there. Thousands of copies cost each packet time.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.netfilter_chains import owner_of
from facts.netfilter_table import Duplicate, read_rule

ID = "IPTABLES-005"
TITLE = "No rule stands in its table many times"
OPERATION = "alternatives.backend"

#: Rules of others may stand there twice by intention; and from so many on, packets suffer.
_OTHERS, _MANY = 10, 1000
#: Versions of iptables-nft whose check of a rule with a comment and a mark never succeeds (kubernetes#82361).
_BROKEN = ("1.8.1", "1.8.2")
_EVIDENCE = 8


def check(case: Case) -> list[Finding]:
    """One finding for all tables."""
    if found := guard.kubernetes(case, "rulesets", "alternatives"):
        return [case.finding(ID, TITLE, *found)]
    double = [
        (one["times"], f"{ruleset['backend']} for IPv{ruleset['family']}: {table['name']}", one["text"])
        for ruleset in case.snapshot["rulesets"]["value"]
        for table in ruleset["tables"]
        for one in table["duplicates"]
        if one["times"] >= (2 if _is_kubes(one) else _OTHERS)
    ]
    if not double:
        if unread := guard.unread_rules(case):
            return [case.finding(ID, TITLE, *unread)]
        return [case.finding(ID, TITLE, Status.PASS, "no rule of kube-proxy or the kubelet is there twice")]
    double.sort(reverse=True)
    times, where, text = double[0]
    versions = _versions(case)
    evidence = [f"{each} times in {place}: {rule}" for each, place, rule in double[:_EVIDENCE]]
    evidence += [f"{name} {version}" for name, version in versions.items()]
    broken = next((f"{name} {version}" for name, version in versions.items() if version in _BROKEN), "")
    why = f"; {broken} (nf_tables) never finds such a rule again" if broken else ""
    sentence = f"a rule stands {times} times in {where}: {text}{why}"
    status = Status.FAIL if times >= _MANY else Status.WARN
    return [case.finding(ID, TITLE, status, sentence, evidence, OPERATION if broken else "")]


def _is_kubes(one: Duplicate) -> bool:
    rule = read_rule(f"[0:0] {one['text']}")
    return "kube" in (owner_of(rule["chain"]), owner_of(rule["target"]))


def _versions(case: Case) -> dict[str, str]:
    backends = case.snapshot["alternatives"]["value"]
    return {one["name"]: one["version"] for one in (backends["commands"] if backends else [])}
