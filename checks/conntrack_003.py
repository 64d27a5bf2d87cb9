"""No query loses the race into its own flow.

A resolver that asks for A and AAAA from one socket sends two packets of one flow that conntrack does not know yet. With
a DNAT both may make an entry; the second one is dropped, and the client waits out its timeout of five seconds.
"""

from __future__ import annotations

import re

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import conntrack
from probes.count import sent

ID = "CONNTRACK-003"
TITLE = "No query loses the race into its own flow"

#: Shares of the questions that were asked meanwhile. Up to the first a lost race is a stray one: two flows of ours that
#: were given one port. Up to the second it may be whatever else passes a busy node: the kernel counts all of it, and
#: never settles a race of two equal TCP SYNs (nf_ct_resolve_clash() in net/netfilter/nf_conntrack_core.c).
_STRAY = 0.01
_BUSY = 0.05


def check(case: Case) -> list[Finding]:
    """One finding. What was counted since boot tells nothing about now; only what grows does."""
    if found := guard.kubernetes(case, "conntrack"):
        return [case.finding(ID, TITLE, *found)]
    table = case.snapshot["conntrack"]["value"]
    if table is None:
        return [case.finding(ID, TITLE, Status.SKIP, "no connections are tracked on this node")]
    if not table["cpus"]:
        return [case.finding(ID, TITLE, Status.UNKNOWN, "the kernel does not show conntrack's counters")]
    failed, resolved = (conntrack.total(table, name) for name in ("insert_failed", conntrack.RESOLVED))
    settles = any(conntrack.RESOLVED in cpu for cpu in table["cpus"])
    kernel = _kernel(case)
    evidence = [f"insert_failed={failed} clash_resolve={resolved} (since boot){kernel}"]
    if case.clashes is None:
        if not failed:
            return [case.finding(ID, TITLE, Status.PASS, "no packet has lost the race since boot", evidence)]
        if not case.dns_services:
            return [case.finding(ID, TITLE, Status.SKIP, "no service of the cluster listens on port 53", evidence)]
        sentence = f"{failed} packets lost the race since boot, and the counters were read only once"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, evidence)]
    evidence.append(f"insert_failed between two reads: {case.clashes}")
    if case.clashes <= 0:
        sentence = f"no packet lost the race between two reads, {failed} since boot"
        return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
    asked = sum(map(sent, case.results))
    if case.clashes <= asked * _STRAY:
        sentence = f"{case.clashes} packets lost the race between two reads, beside {asked} questions"
        return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
    sentence = (
        f"{case.clashes} packets lost the race between two reads: conntrack dropped them at insertion, and their"
        " clients wait for a timeout (5 s with glibc)"
    )
    if case.clashes <= asked * _BUSY:
        sentence = (
            f"{case.clashes} packets of all that passed the node lost the race between two reads, beside {asked}"
            " questions: which, nobody counts"
        )
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    if settles:
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    # Before clash_resolve was counted, a race that was settled without a loss counted as insert_failed as well.
    return [case.finding(ID, TITLE, Status.WARN, f"{sentence}, unless this old kernel settled the race", evidence)]


def _kernel(case: Case) -> str:
    system = case.snapshot["system"]["value"] if "system" in case.snapshot else None
    release = re.match(r"\d+\.\d+", system["kernel"]) if system else None
    return f", Linux {release[0]}" if release else ""
