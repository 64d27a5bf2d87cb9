"""DNS is answered on a new node, from the node and from its pods.

Asked along every hop of a query's way that begins on this node; before Kubernetes is there, that is the node's own
resolver and the upstreams of its dnsmasq.
"""

from __future__ import annotations

from checks.diagnosis import Hop, doubtful
from checks.finding import Finding, Status
from checks.newcomer import Newcomer

ID = "ONBOARD-007"
TITLE = "DNS is answered on a new node, from the node and from its pods"


def check(new: Newcomer) -> list[Finding]:
    """One finding: fail where a hop loses, unknown where one could not be asked, or where none begins on the node."""
    case = new.case
    evidence = [line for hop in new.hops for line in _said(hop)]
    if losing := [hop for hop in new.hops if hop["state"] == "loses"]:
        more = f", and {len(losing) - 1} more" if losing[1:] else ""
        sentence = f"{_way(losing[0])} loses {_worst(losing[0])}{more}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if unknown := [hop for hop in new.hops if doubtful(hop)]:
        return [case.finding(ID, TITLE, Status.UNKNOWN, f"{_way(unknown[0])} could not be asked", evidence)]
    if not any(hop["source"] == "host" for hop in new.hops):
        sentence = "nothing was asked from the node: neither its resolv.conf nor systemd-resolved names a server"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, evidence)]
    pods = {hop["source"] for hop in new.hops if hop["source"] != "host" and "why" not in hop}
    whom = f"and from {len(pods)} of its pods" if pods else "; no pod runs on it yet"
    sentence = f"every question was answered, from the node {whom}".replace(" ;", ";")
    return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]


def _way(hop: Hop) -> str:
    return f"{hop['source']} -> {hop['destination']}:{hop['port']} ({hop['stage']})"


def _worst(hop: Hop) -> str:
    losses = [loss for loss in hop["losses"] if loss["sent"]]
    loss = max(losses, key=lambda each: each["lost"] / each["sent"])
    return f"{loss['lost']} of {loss['sent']} over {loss['protocol'].upper()} ({loss['name'] or 'echo'})"


def _said(hop: Hop) -> list[str]:
    return [
        f"{_way(hop)}: {loss['protocol'].upper()} {loss['name']}: {loss['lost']} of {loss['sent']} lost"
        for loss in hop["losses"]
    ]
