"""The connection tracking table has room.

When it is full, every new flow's first packet is dropped: DNS over UDP, a new flow for each query, suffers first. The
number of flows alone does not tell, because a full table evicts as well: only drops that grow do.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from checks.kernel_log import complaint

ID = "CONNTRACK-001"
TITLE = "The connection tracking table has room"
OPERATION = "sysctl.settings"

#: Share of the maximum from which on the table counts as nearly full.
_NEAR = 0.9


def check(case: Case) -> list[Finding]:
    """One finding. Also for a node without Kubernetes: dnsmasq's clients are tracked as well."""
    if reason := case.unread(("conntrack",)):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    table = case.snapshot["conntrack"]["value"]
    if table is None:
        return [case.finding(ID, TITLE, Status.SKIP, "no connections are tracked on this node")]
    drops = sum(cpu.get("drop", 0) for cpu in table["cpus"])
    near = table["count"] >= _NEAR * table["maximum"]
    level = f"{table['count']} of {table['maximum']} flows"
    evidence = [f"count={table['count']} max={table['maximum']} drop={drops} (since boot)"]
    ago, line = complaint(case, "conntrack table full")
    evidence += [line] if line else []
    if case.drops is not None:
        evidence.append(f"dropped between two reads: {case.drops}")
        if case.drops > 0:
            sentence = f"conntrack drops packets: {case.drops} between two reads, with {level}"
            return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    elif near and drops:
        sentence = f"the table is full: {level}, {drops} packets dropped since boot"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    elif ago is not None:
        sentence = f"the kernel said {ago:.0f} s ago that the table is full and packets are dropped"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if near:
        return [case.finding(ID, TITLE, Status.WARN, f"nearly full: {level}", evidence, OPERATION)]
    return [case.finding(ID, TITLE, Status.PASS, level, evidence)]
