"""dnsmasq's configuration can be read.

A line that dnsmasq does not understand does no harm until the next restart, which then stops dnsmasq and does not start
it again. The files are read as dnsmasq reads them, in its order, with the running process's own command line.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from facts.dnsmasq import ReadError

ID = "DNSMASQ-002"
TITLE = "dnsmasq's configuration can be read"


def check(case: Case) -> list[Finding]:
    """One finding per dnsmasq that answers in the node's own network."""
    if reason := case.unread():
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    # A container's with the network of the node has sockets there.
    listening = {owner["pid"] for each in case.snapshot["sockets"]["value"] for owner in each["owners"] or []}
    found: list[Finding] = []
    for instance in case.snapshot["dnsmasq"]["value"]["instances"]:
        error = instance["error"]
        which = instance["unit"] or f"dnsmasq, pid {instance['pid']}"
        evidence = [" ".join(instance["argv"])]
        if not instance["on_host"]:
            if instance["pid"] in listening:
                sentence = f"{which} has a root of its own, a container's: its files are not the node's, and not read"
                found.append(case.finding(ID, TITLE, Status.SKIP, sentence, evidence))
            continue
        if error is None:
            sentence = f"{which}: {len(instance['files'])} files, {len(instance['options'])} options"
            found.append(case.finding(ID, TITLE, Status.PASS, sentence, evidence))
            continue
        place = f"{error['file']}:{error['line']}: " if error["line"] else ""
        if not error.get("certain"):
            sentence = f"{place}{error['message']} ({which}: whether its next restart succeeds is not known)"
            found.append(case.finding(ID, TITLE, Status.UNKNOWN, sentence, [*evidence, *_line(case, error)]))
            continue
        state = "runs, and its next restart would be an outage" if instance["pid"] else "does not run"
        sentence = f"{place}{error['message']} ({which} {state})"
        evidence += _line(case, error)
        found.append(case.finding(ID, TITLE, Status.FAIL, sentence, evidence))
    return found or [case.finding(ID, TITLE, Status.SKIP, "no dnsmasq on this node")]


def _line(case: Case, error: ReadError) -> list[str]:
    """The line itself."""
    file = case.snapshot["dnsmasq"]["value"]["files"].get(error["file"])
    lines = file["content"].split("\n") if file else []
    number = error["line"]
    return [f"{error['file']}:{number}: {lines[number - 1]}"] if 0 < number <= len(lines) else []
