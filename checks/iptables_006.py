"""No rule of the kubelet drops everything.

KUBE-FIREWALL drops packets with a mark. A program with an older iptables that saves and restores rules of an iptables
from 1.8.8 on loses that condition: the rule that stays drops every packet that reaches the chain.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.netfilter_table import Rule

ID = "IPTABLES-006"
TITLE = "No rule of the kubelet drops everything"

#: What makes such a rule meet some packets only; a comment does not.
_CONDITIONS = (" --mark ", " -s ", " -d ", " -i ", " -o ", " -p ", " --ctstate ", " --state ")


def check(case: Case) -> list[Finding]:
    """One finding. The chain is deleted and made again by the kubelet, with the host's iptables."""
    if found := guard.kubernetes(case, "rulesets", "alternatives"):
        return [case.finding(ID, TITLE, *found)]
    broken = [
        (f"{ruleset['backend']} for IPv{ruleset['family']}", rule)
        for ruleset in case.snapshot["rulesets"]["value"]
        for table in ruleset["tables"]
        for rule in table.get("passage", [])
        if rule["chain"] == "KUBE-FIREWALL" and _drops_everything(rule)
    ]
    backends = case.snapshot["alternatives"]["value"]
    versions = (
        [f"{one['name']} {one['version']} ({one['backend']})" for one in backends["commands"]] if backends else []
    )
    if broken:
        where, rule = broken[0]
        sentence = f"{where}: {rule['text']} has lost its condition and drops everything ({rule['packets']} packets)"
        evidence = [f"{place}: {one['text']} [{one['packets']} packets]" for place, one in broken] + versions
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if unread := guard.unread_rules(case):
        return [case.finding(ID, TITLE, *unread)]
    if any("passage" not in table for one in case.snapshot["rulesets"]["value"] for table in one["tables"]):
        return [case.finding(ID, TITLE, Status.UNKNOWN, "the rules of KUBE-FIREWALL are not in this snapshot")]
    image = "" if case.unread(("image_iptables",)) else case.snapshot["image_iptables"]["value"]
    versions += [f"kube-proxy's image: iptables {image}"] if image else []
    host = next((one for one in backends["commands"] if one["name"] == "iptables"), None) if backends else None
    if image and host and host["backend"] == "nft" and _marks(case) and _new(image) != _new(host["version"]):
        sentence = (
            f"kube-proxy's image has iptables {image}, the host {host['version']}: the older one does not understand"
            " the condition of KUBE-FIREWALL's DROP, and loses it when it restores the rules"
        )
        return [case.finding(ID, TITLE, Status.WARN, sentence, versions)]
    sentence = "each DROP of KUBE-FIREWALL has a condition"
    return [case.finding(ID, TITLE, Status.PASS, sentence, versions)]


def _marks(case: Case) -> bool:
    """Whether the kubelet drops by mark at all: from Kubernetes 1.28 on it does not."""
    return any(
        rule["chain"] == "KUBE-FIREWALL" and " --mark " in rule["text"]
        for ruleset in case.snapshot["rulesets"]["value"]
        if ruleset["backend"] == "nft"
        for table in ruleset["tables"]
        for rule in table.get("passage", [])
    )


def _new(version: str) -> bool:
    """From 1.8.8 on iptables-nft writes a mark in nftables' own words (kubernetes#112477)."""
    return tuple(int(part) for part in version.split(".") if part.isdigit()) >= (1, 8, 8)


def _drops_everything(rule: Rule) -> bool:
    # Whatever a comment says, it is between quotes or without spaces.
    return rule["target"] == "DROP" and not any(word in rule["text"] for word in _CONDITIONS)
