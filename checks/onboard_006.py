"""A new node has the tools that Kubernetes' networking calls.

kube-proxy and the kubelet call iptables; kube-proxy deletes flows with conntrack, and in IPVS mode keeps sets with
ipset; network plugins call ip. Without ipvsadm nobody sees at night what IPVS does.
"""

from __future__ import annotations

from checks.finding import Finding, Status
from checks.newcomer import Newcomer

ID = "ONBOARD-006"
TITLE = "A new node has the tools that Kubernetes' networking calls"

_ALWAYS = ("iptables", "ip6tables", "conntrack", "ip", "ss", "nsenter")
_IPVS = ("ipset", "ipvsadm")
#: Debian's and Ubuntu's packages, and those of RHEL and its kin, where they are not called as the tool.
_DEBIAN = {"ip6tables": "iptables", "ip": "iproute2", "ss": "iproute2", "nsenter": "util-linux"}
_RHEL = {
    "iptables": "iptables-nft",
    "ip6tables": "iptables-nft",
    "conntrack": "conntrack-tools",
    "ip": "iproute",
    "ss": "iproute",
    "nsenter": "util-linux",
}


def check(new: Newcomer) -> list[Finding]:
    """One finding."""
    case = new.case
    brought = new.brings()
    if brought is None:
        return [case.finding(ID, TITLE, Status.UNKNOWN, new.unbrought())]
    needed = [*_ALWAYS, *(_IPVS if new.reference.mode == "ipvs" else ())]
    missing = [tool for tool in needed if tool not in brought["tools"]]
    evidence = [f"{tool}: {brought['tools'].get(tool, 'not found')}" for tool in needed]
    if missing:
        sentence = f"not found: {', '.join(missing)}"
        return [case.finding(ID, TITLE, Status.FAIL, f"{sentence} ({_advice(new, missing)})", evidence)]
    return [case.finding(ID, TITLE, Status.PASS, f"{', '.join(needed)} are there", evidence)]


def _advice(new: Newcomer, missing: list[str]) -> str:
    system = new.case.snapshot["system"]["value"]
    debian = system is not None and system["os"] in ("debian", "ubuntu")
    packages = dict.fromkeys((_DEBIAN if debian else _RHEL).get(tool, tool) for tool in missing)
    return f"{'apt-get' if debian else 'dnf'} install {' '.join(packages)}"
