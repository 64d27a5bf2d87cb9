"""iptables works on one backend, on every node and in every part of it.

Rules of both backends apply to every packet, but each command sees one of them only: where the host's iptables,
ip6tables, the kubelet and kube-proxy do not agree, or a node is unlike the others, somebody leaves rules behind that
nobody cleans up. Both backends holding rules is no fault: docker may be on nft where Kubernetes is on legacy.
"""

from __future__ import annotations

from collections import Counter

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from facts.snapshot import Snapshot
from models import kube_backends
from models.kube_backends import COMMANDS, FAMILIES

ID = "IPTABLES-001"
TITLE = "iptables works on one backend, on every node and in every part of it"
OPERATION = "alternatives.backend"


def check(case: Case) -> list[Finding]:
    """One finding: the node in itself, then the node among the fleet."""
    if found := guard.rules(case):
        return [case.finding(ID, TITLE, *found)]
    host = [kube_backends.host(case.snapshot, family) for family in FAMILIES]
    if host == [None, None]:
        return [case.finding(ID, TITLE, Status.UNKNOWN, "neither iptables nor ip6tables tells its backend")]
    fleet = {name: read for name, read in sorted(case.fleet.items()) if read is not None and _known(read)}
    matrix = [f"{name}: {kube_backends.summary(read)}" for name, read in fleet.items()]
    if None not in host and host[0] != host[1]:
        chosen = [kube_backends.chosen_by(case.snapshot, family) or "no alternative" for family in FAMILIES]
        sentence = f"only ip6tables is on {host[1]} ({chosen[1]}), iptables is on {host[0]} ({chosen[0]})"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, matrix, OPERATION)]
    if sentence := _inside(case.snapshot):
        proxy = case.snapshot["kube_proxy"]["value"]
        status = Status.FAIL if proxy and kube_backends.follows_host(proxy) else Status.WARN
        return [case.finding(ID, TITLE, status, sentence, matrix, OPERATION)]
    if sentence := _among(case.name, fleet):
        return [case.finding(ID, TITLE, Status.FAIL, sentence, matrix, OPERATION)]
    if unread := guard.unread_rules(case):
        return [case.finding(ID, TITLE, *unread, matrix)]
    sentence = (
        f"{host[0] or host[1]} for all parts of the node, as on all {len(fleet)} nodes of the cluster that were read"
    )
    return [case.finding(ID, TITLE, Status.PASS, sentence, matrix)]


def _known(read: Snapshot) -> bool:
    return all(what in read for what in ("kube_proxy", "rulesets", "alternatives")) and bool(
        read["kube_proxy"]["value"]
    )


def _inside(read: Snapshot) -> str:
    """The kubelet or kube-proxy on another backend than the host. Those in both are IPTABLES-002 and -004."""
    host = kube_backends.host(read, 4) or kube_backends.host(read, 6)
    hinted = [backend for family in FAMILIES for backend in kube_backends.kubelet(read, family)]
    if hinted and host not in hinted:
        return f"the kubelet works on {hinted[0]}, the host's iptables is on {host}"
    for family in FAMILIES:
        written = kube_backends.kube_proxy(read, family)
        if written and host not in written:
            return f"kube-proxy works on {written[0]} for IPv{family}, the host's {COMMANDS[family]} is on {host}"
    return ""


def _among(name: str, fleet: dict[str, Snapshot]) -> str:
    """The node that is unlike most others, or all nodes of a fleet in which no backend has the majority."""
    host = {other: kube_backends.host(read, 4) or kube_backends.host(read, 6) for other, read in fleet.items()}
    counts = Counter(backend for backend in host.values() if backend)
    if len(counts) < 2:
        return ""
    usual, times = counts.most_common(1)[0]
    by_backend = ", ".join(
        f"{backend} on {' and '.join(other for other, its in host.items() if its == backend)}" for backend in counts
    )
    how = kube_backends.chosen_by(fleet[name], 4) or "no alternative"
    if times * 2 <= sum(counts.values()):
        return f"the fleet is split: {by_backend}; here iptables is on {host[name]} ({how})"
    if host[name] == usual:
        return ""
    return (
        f"{name} is the odd node: iptables is on {host[name]} ({how}), on {usual} on {times} other nodes ({by_backend})"
    )
