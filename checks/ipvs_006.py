"""IPVS lets go of real servers that have gone.

A UDP client that keeps its source port stays with its real server for five minutes after its last packet. With
net.ipv4.vs.expire_nodest_conn=0 IPVS drops its packets for as long as it asks, and `conntrack -D` does not help; with
1, which kube-proxy sets, one packet is lost.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.ipvs import stale_connections
from models import kernel_settings

ID = "IPVS-006"
TITLE = "IPVS lets go of real servers that have gone"
OPERATION = "sysctl.settings"


def check(case: Case) -> list[Finding]:
    """One finding."""
    if found := guard.ipvs(case):
        return [case.finding(ID, TITLE, *found)]
    ipvs = case.snapshot["ipvs"]["value"]
    assert ipvs is not None, "guarded"
    if not ipvs["sysctls"]:
        return [case.finding(ID, TITLE, Status.UNKNOWN, "net.ipv4.vs is not there: ip_vs is not loaded")]
    wanted = kernel_settings.ipvs(case.snapshot)
    wrong = {name: ipvs["sysctls"][name.rpartition(".")[2]] for name in wanted}
    evidence = [
        f"net.ipv4.vs.{name} = {ipvs['sysctls'][name]}" for name in kernel_settings.IPVS if name in ipvs["sysctls"]
    ]
    stale = [one for one in stale_connections(ipvs) if one["protocol"] == "udp"]
    evidence += [
        f"{one['entries']} UDP connections to {one['virtual']}:{one['virtual_port']} stay with {one['destination']}"
        f":{one['port']} for up to {one['longest']} s"
        for one in stale
    ]
    settings = ", ".join(f"{name}={value}" for name, value in wrong.items())
    if "net.ipv4.vs.expire_nodest_conn" in wrong and stale:
        kept = f"{sum(one['entries'] for one in stale)} UDP connections are kept for {stale[0]['destination']}"
        sentence = f"{kept}, which is no real server any more, and {settings} drops their packets"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if wrong:
        sentence = f"{settings}: kube-proxy sets {', '.join(f'{name}={value}' for name, value in wanted.items())}"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence, OPERATION)]
    return [case.finding(ID, TITLE, Status.PASS, "kube-proxy's settings of net.ipv4.vs are in force", evidence)]
