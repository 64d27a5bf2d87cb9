"""dnsmasq runs with the configuration that is on disk.

dnsmasq reads its files at the start only; SIGHUP (systemctl reload) does not read them again. A file that is younger
than the process is not in force yet, whatever it says.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status

ID = "DNSMASQ-004"
TITLE = "dnsmasq runs with the configuration that is on disk"
#: proc(5) gives a start in clock ticks, stat(1) a change in whole seconds.
_TOLERANCE_S = 2


def check(case: Case) -> list[Finding]:
    """One finding per dnsmasq that owns an address which serves DNS."""
    if reason := case.unread():
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    running = {instance["pid"]: instance for _, instance in case.served if instance and instance["pid"]}
    if not running:
        return [case.finding(ID, TITLE, Status.SKIP, "no dnsmasq runs for an address that serves DNS here")]
    owners = case.snapshot["dnsmasq"]["value"]["owners"]
    found: list[Finding] = []
    for instance in running.values():
        read = [*instance["files"], *([instance["error"]["file"]] if instance["error"] else [])]
        younger = [
            path for path in read if path in owners and owners[path]["changed"] > instance["started"] + _TOLERANCE_S
        ]
        which = instance["unit"] or f"dnsmasq, pid {instance['pid']}"
        if younger:
            sentence = f"{which} has not read {', '.join(younger)} as it is now: it was changed after the start"
            found.append(case.finding(ID, TITLE, Status.WARN, sentence))
        else:
            found.append(case.finding(ID, TITLE, Status.PASS, f"{which} is younger than its {len(read)} files"))
    return found
