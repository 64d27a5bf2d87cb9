"""firewalld leaves the cluster's rules alone.

Each reload of an older firewalld flushes all iptables rules, kube-proxy's and the network plugin's with them; what only
a pod's start writes does not come back. And its own chains reject what pods forward unless their zone is trusted.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.crossing import crossing
from checks.finding import Finding, Status
from models import passage
from probes.count import asked, lost, sent, summary

ID = "FIREWALL-002"
TITLE = "firewalld leaves the cluster's rules alone"

TABLE = "inet firewalld"
_EVIDENCE = 8


def check(case: Case) -> list[Finding]:
    """One finding: warn where firewalld runs on a node of a cluster, fail where pods' questions are lost as well."""
    if reason := case.unread(("units", "interfaces")):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    hooks = [] if case.unread(("nft_hooks",)) else case.snapshot["nft_hooks"]["value"]
    unit = next((one for one in case.snapshot["units"]["value"] if one["unit"] == "firewalld.service"), None)
    running = unit is not None and unit["active"] in ("active", "reloading")
    theirs = [one for one in hooks if one["table"] == TABLE]
    evidence = [f"firewalld.service: {unit['active']} since {unit['active_since']}"] if unit and running else []
    evidence += [f"{TABLE} {one['chain']}: {one['rules'][-1] if one['rules'] else one['policy']}" for one in theirs]
    rejecting = [one for one in theirs if one["hook"] == "forward" and passage.native(one).verdict != "passes"]
    across = crossing(case)
    losing = [one for one in across if lost(one) == sent(one)]
    evidence += [f"{asked(one)}: {summary(one)}" for one in losing][:_EVIDENCE]
    if rejecting and across and losing == across:
        left = "" if running else ", which a firewalld that does not run any more has left behind,"
        sentence = f"{TABLE}{left} ends with {rejecting[0]['rules'][-1]}, and all that pods ask of others is lost"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if running and guard.kubernetes(case) is None:
        sentence = "firewalld runs: a reload flushes kube-proxy's rules, and its zones have to know the pods"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    sentence = "firewalld runs, and there is no cluster here" if running else "firewalld does not run"
    sentence += f"; its table {TABLE} is still there" if theirs and not running else ""
    return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
