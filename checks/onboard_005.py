"""A new node's clock is right, and somebody keeps it so.

Certificates, leases and logs are compared between nodes: a node whose clock is wrong may not even be let in, and what
its logs say of an outage fits nobody else's.
"""

from __future__ import annotations

from checks.finding import Finding, Status
from checks.newcomer import Newcomer

ID = "ONBOARD-005"
TITLE = "A new node's clock is right, and somebody keeps it so"

#: Seconds. Leases are renewed within 10 s (kubelet, --node-lease-duration-seconds 40); etcd warns from 1 s on.
_WRONG, _OFF = 5.0, 1.0


def check(new: Newcomer) -> list[Finding]:
    """One finding. How far off it is, is known to the time that the question took."""
    case = new.case
    brought = new.brings()
    if brought is None:
        return [case.finding(ID, TITLE, Status.UNKNOWN, new.unbrought())]
    before, after = new.asked
    ahead = max(0.0, brought["clock"] - after) or min(0.0, brought["clock"] - before)
    system = case.snapshot["system"]["value"]
    keeper = f"{brought['keeper'] or 'no time daemon'}{': ' if brought['said'] else ''}{brought['said']}"
    evidence = [f"asked within {after - before:.2f} s; the node's clock is {ahead:+.2f} s beyond that", keeper]
    if abs(ahead) > _WRONG:
        sentence = f"the clock is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'} of this machine's ({keeper})"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if after - before > _WRONG:
        sentence = f"the node took {after - before:.1f} s to answer: how far its clock is off cannot be told"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, evidence)]
    if system and system["container"]:
        sentence = "as this machine's; the node is a container, whose clock is kept below it"
        return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
    if not brought["keeper"]:
        sentence = "no time daemon keeps the clock (chronyd, systemd-timesyncd, ntpd)"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if brought["synchronised"] is False:
        sentence = f"{brought['keeper']} says that the clock is not synchronised: {brought['said']}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if brought["synchronised"] is None:
        sentence = f"{brought['keeper']} does not say whether the clock is synchronised"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    if abs(ahead) > _OFF:
        sentence = f"the clock is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'} of this machine's ({keeper})"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    return [case.finding(ID, TITLE, Status.PASS, f"as this machine's, kept by {keeper}", evidence)]
