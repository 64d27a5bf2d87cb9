"""No reverse path filter drops what pods send.

With rp_filter=1 the kernel drops a packet that does not arrive on the interface by which it would answer. On Cilium's
nodes a pod's packet enters on its lxc link, or on the tunnel, while the route to the pod is through cilium_host.
"""

from __future__ import annotations

from checks.case import Case
from checks.finding import Finding, Status
from facts.pods import host_interface
from models import node
from probes.count import asked, lost, sent, summary

ID = "KERNEL-001"
TITLE = "No reverse path filter drops what pods send"
OPERATION = "server.sysctl"

#: What Cilium's tunnels are called: what comes out of them is routed back through cilium_host.
_TUNNELS = ("cilium_vxlan", "cilium_geneve")
_EVIDENCE = 6


def check(case: Case) -> list[Finding]:
    """One finding. The higher one of an interface's own value and that of `all` counts (ip-sysctl.rst)."""
    if reason := case.unread(("interfaces", "routes", "pods", "kernel")):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    ways = _ways(case)
    if not ways:
        return [case.finding(ID, TITLE, Status.PASS, "no pod sends by another way than it is reached")]
    values = {link: _effective(case, link) for link, _, _ in ways}
    strict = [way for way in ways if values[way[0]] == 1]
    evidence = [f"rp_filter of {link}: {value}" for link, value in values.items()][:_EVIDENCE]
    if strict:
        link, back, who = strict[0]
        pods = {way[2] for way in strict}
        theirs = [one for one in case.results if one["probe"]["source"]["name"] in pods and sent(one)]
        evidence += [f"{asked(one)}: {summary(one)}" for one in theirs if lost(one)][:_EVIDENCE]
        sentence = f"rp_filter is strict on {link}, and the way back to {who} is {back}: what arrives there is dropped"
        if theirs and all(lost(one) == sent(one) for one in theirs):
            return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
        return [case.finding(ID, TITLE, Status.WARN, f"{sentence}, unless it is redirected", evidence, OPERATION)]
    if unknown := [link for link, value in values.items() if value is None]:
        return [case.finding(ID, TITLE, Status.UNKNOWN, f"rp_filter of {unknown[0]} was not read", evidence)]
    sentence = f"{len(ways)} links have another way back, and none is strict"
    return [case.finding(ID, TITLE, Status.PASS, sentence, evidence)]


def _ways(case: Case) -> list[tuple[str, str, str]]:
    """Links on which packets enter whose way back is another one: the link, the way back, and whose packets."""
    interfaces = {one["name"]: one for one in case.snapshot["interfaces"]["value"]}
    found: list[tuple[str, str, str]] = []
    for asker in node.askers(case.snapshot):
        pod = next(one for one in case.snapshot["pods"]["value"] if one["pid"] == asker.pid)
        link = host_interface(pod, interfaces.values())
        # IPv6 has no such filter, and a bridge stands for its ports.
        if link and ":" not in asker.address and asker.arrival not in (link, interfaces[link]["master"]):
            found.append((link, asker.arrival, asker.name))
    if "cilium_host" in interfaces:
        found += [(name, "cilium_host", "other nodes' pods") for name in _TUNNELS if name in interfaces]
    return found


def _effective(case: Case, link: str) -> int | None:
    sysctls = case.snapshot["kernel"]["value"]["sysctls"]
    values = [sysctls.get(f"net.ipv4.conf.{name}.rp_filter") for name in ("all", link)]
    return (
        max(int(value) for value in values if value) if all(value and value.isdecimal() for value in values) else None
    )
