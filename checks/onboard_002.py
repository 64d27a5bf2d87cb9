"""A new node's kernel has what its iptables, kube-proxy and network plugin need.

A minimal or a cloud kernel comes without IPVS or without legacy tables, and the part of a kernel's modules that has
them may be a package of its own. kube-proxy loads IPVS by itself where it can be had; br_netfilter nobody loads.
"""

from __future__ import annotations

from collections.abc import Mapping

from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from facts.kernel import MODULES as KNOWN

ID = "ONBOARD-002"
TITLE = "A new node's kernel has what its iptables, kube-proxy and network plugin need"

_IPVS = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh")
_BRIDGES = "net.bridge."
_BACKENDS = {"legacy": ("ip_tables", "ip6_tables"), "nft": ("nf_tables",), None: ()}
_THERE = ("loaded", "built in")


def check(new: Newcomer) -> list[Finding]:
    """One finding: fail for the first part that is missing, unknown where the node does not tell."""
    case, wanted = new.case, new.reference
    brought = new.brings()
    if brought is None:
        return [case.finding(ID, TITLE, Status.UNKNOWN, new.unbrought())]
    if reason := case.unread(("kernel",)):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    kernel = case.snapshot["kernel"]["value"]["modules"]
    needs = [(name, f"iptables is to be {wanted.backend}") for name in _BACKENDS[wanted.backend]]
    needs.append(("nf_conntrack", "kube-proxy's NAT"))
    if wanted.mode == "ipvs":
        needs += [(name, f"kube-proxy is in ipvs mode, {wanted.mode_because}") for name in _IPVS]
    if bridges := _bridges(new):
        needs.append(("br_netfilter", bridges))
    state = {name: _availability(name, brought["modules"].get(name, "unknown"), kernel) for name, _ in needs}
    evidence = [f"{name}: {how}" for name, how in state.items()]
    for name, why in needs:
        if state[name] in ("missing", "not built"):
            sentence = f"this kernel ({_release(new)}) has no {name}, and {why}"
            return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
        if name == "br_netfilter" and state[name] not in (*_THERE, "unknown"):
            sentence = f"br_netfilter is not loaded, which nobody does by himself, and {why}"
            return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
    if unknown := [name for name, how in state.items() if how == "unknown"]:
        sentence = f"whether this kernel has {', '.join(unknown)} cannot be told on the node: no list of its modules"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, evidence)]
    return [case.finding(ID, TITLE, Status.PASS, f"{', '.join(state)} can be had", evidence)]


def _availability(name: str, brought: str, kernel: Mapping[str, str]) -> str:
    """As the list of modules says; the kernel's configuration where there is no list."""
    if brought != "unknown":
        return brought
    told = kernel.get(name, "unknown")
    # IPVS's schedulers are built with it, or not at all.
    if name in _IPVS and kernel.get("ip_vs") == "not built":
        return "not built"
    return told if name in KNOWN else "unknown"


def _bridges(new: Newcomer) -> str:
    wanted = next((name for name in new.reference.settings if name.startswith(_BRIDGES)), "")
    if new.reference.bridged:
        return f"pods are attached to a bridge, as on {new.reference.bridged}"
    if wanted and new.reference.settings_because[wanted].startswith("the policy"):
        return f"the policy sets {wanted}"
    return ""


def _release(new: Newcomer) -> str:
    system = new.case.snapshot["system"]["value"]
    return system["kernel"] if system else "of an unknown release"
