"""UDP arrives with right checksums.

Some kernels and network cards spoil the outer checksum of VXLAN packets that they ought to compute (checksum offload).
The receiving node throws them away; the answers of CoreDNS pods on other nodes are among them.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from checks.kernel_log import complaint

ID = "KERNEL-004"
TITLE = "UDP arrives with right checksums"

#: Between two reads: below this, a stray datagram. Without a tunnel here they are somebody's, not the pods'.
_FEW = 5


def check(case: Case) -> list[Finding]:
    """One finding. The node that complains receives; the one to repair sends."""
    if reason := case.unread(("udp", "interfaces")):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    counted = case.snapshot["udp"]["value"]
    assert counted, "a reading has a value"
    bad, received = counted["bad_checksums"], counted["received"]
    ago, line = complaint(case, "bad UDP checksum")
    evidence = [f"InCsumErrors={bad} InDatagrams={received} (since boot)", *([line] if line else [])]
    tunnels = [one["name"] for one in case.snapshot["interfaces"]["value"] if one["kind"] == "vxlan"]
    evidence += [f"VXLAN: {name}" for name in tunnels]
    means = f" (VXLAN on {', '.join(tunnels)}: see its senders' tx-checksum-ip-generic)" if tunnels else ""
    if case.bad_checksums:
        evidence.append(f"InCsumErrors between two reads: {case.bad_checksums}")
        status = Status.FAIL if tunnels and case.bad_checksums >= _FEW else Status.WARN
        sentence = f"{case.bad_checksums} datagrams with a wrong checksum were thrown away between two reads{means}"
        return [case.finding(ID, TITLE, status, sentence, evidence)]
    if case.bad_checksums is None and ago is not None:
        sentence = f"the kernel threw a datagram with a wrong checksum away {ago:.0f} s ago{means}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if case.bad_checksums is None and bad:
        sentence = f"{bad} wrong ones since boot, and the counters were read only once: nothing tells about now"
        return [case.finding(ID, TITLE, Status.SKIP, sentence, evidence)]
    sentence = f"{bad} wrong ones since boot, {received} datagrams received"
    return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]
