"""The neighbour table has room.

ARP and NDP entries of all network namespaces share one table. When it holds gc_thresh3 entries, new ones are refused:
packets to hosts and pods that are not in it are dropped, at random from a client's point of view.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from checks.kernel_log import complaint
from facts.neighbours import Neighbours

ID = "KERNEL-003"
TITLE = "The neighbour table has room"
OPERATION = "server.sysctl"

#: Shares of gc_thresh3: nearly full; and, with overflows since boot, full again and again.
_NEAR, FULL = 0.9, 0.8


def check(case: Case) -> list[Finding]:
    """One finding for both families."""
    if reason := case.unread(("neighbours",)):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    tables = case.snapshot["neighbours"]["value"]
    ago, line = complaint(case, "neighbour table overflow")
    evidence = [
        f"IPv{one['family']}: {one['entries']} entries, gc_thresh3={one['limit']}, {one['overflows']} refused"
        for one in tables
    ]
    evidence += [line] if line else []
    recent = "" if ago is None else f"the kernel said {ago:.0f} s ago that the neighbour table overflows"
    if not tables and recent:
        return [case.finding(ID, TITLE, Status.FAIL, recent, evidence, OPERATION)]
    if not tables:
        sentence = "the kernel shows its neighbour tables to the machine only, and this node is a container"
        return [case.finding(ID, TITLE, Status.SKIP, sentence)]
    worst = max(tables, key=_share)
    level = f"{worst['entries']} of {worst['limit']} entries for IPv{worst['family']}"
    if recent and _share(worst) >= FULL:
        return [case.finding(ID, TITLE, Status.FAIL, f"{recent}: {level}", evidence, OPERATION)]
    if recent:
        # It was given room since, or it is full now and then only.
        return [case.finding(ID, TITLE, Status.WARN, f"{recent}; now it has room: {level}", evidence, OPERATION)]
    if worst["overflows"] and _share(worst) >= FULL:
        sentence = f"the neighbour table overflows: {level}, {worst['overflows']} entries refused since boot"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if _share(worst) >= _NEAR:
        return [case.finding(ID, TITLE, Status.WARN, f"nearly full: {level}", evidence, OPERATION)]
    return [case.finding(ID, TITLE, Status.PASS, level, evidence)]


def _share(table: Neighbours) -> float:
    return table["entries"] / table["limit"] if table["limit"] else 0.0
