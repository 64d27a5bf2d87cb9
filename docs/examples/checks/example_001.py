"""Every name server in resolv.conf is asked.

The C library asks the first three name servers of resolv.conf and never one after them (MAXNS in <resolv.h>). Whoever
added a fourth one as a reserve has none: nothing says so until the first three are down.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status

ID = "EXAMPLE-001"
TITLE = "Every name server in resolv.conf is asked"
#: What repairs it. Leave it out where nothing of ours does.
OPERATION = "example.name_servers"

#: MAXNS of glibc and musl.
_ASKED = 3


def check(case: Case) -> list[Finding]:
    """One finding."""
    # Guards come first, and say why. What could not be read is unknown, never a pass.
    if reason := case.unread(("resolv_conf",)):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    read = case.snapshot["resolv_conf"]["value"]
    if read is None:
        return [case.finding(ID, TITLE, Status.SKIP, "the node has no resolv.conf")]
    servers = read["nameservers"]
    if len(servers) <= _ASKED:
        return [case.finding(ID, TITLE, Status.PASS, f"{len(servers)} name servers in {read['path']}")]
    # The sentence names the culprit; the evidence is verbatim.
    sentence = f"{', '.join(servers[_ASKED:])} in {read['path']} is never asked: only the first {_ASKED} are"
    evidence = [f"nameserver {server}" for server in servers]
    return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
