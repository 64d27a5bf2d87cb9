"""Resolvers that ask each other in a circle, or themselves."""

from __future__ import annotations

from lab import healing
from lab.faults import dnsmasq_files
from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node
from lab.plan import RESOLVERS

_UPSTREAMS = "/etc/dnsmasq.d/20-upstreams.conf"
_STUB = "127.0.0.53"
_OTHER = RESOLVERS[2]


def _through_resolved(node: Node, _: Mode | None) -> str:
    before = node.read(_UPSTREAMS)
    node.write(_UPSTREAMS, before.replace(f"server={_OTHER.address}\n", f"server={_STUB}\n"))
    dnsmasq_files.restart(node)
    # What systemd-resolved remembers would be answered for a while.
    node.run(["resolvectl", "flush-caches"])
    answer = node.ask(node.plan.vip, _OTHER.sample)
    if answer.good:
        raise LabError(f"the fault is not live: {_OTHER.sample} is answered")
    return f"dnsmasq asks {_STUB}, and systemd-resolved asks dnsmasq: {_OTHER.sample}: {answer}"


def _pod_with_stub(node: Node, _: Mode | None) -> str:
    folder = "/etc/pods/coredns"
    for file in ("resolv.conf", "stub-resolv.conf"):
        node.write(f"{folder}/resolve/{file}", f"nameserver {_STUB}\noptions edns0 trust-ad\n")
    unbound = node.read(f"{folder}/unbound.conf")
    # unbound by itself does not ask its own machine; CoreDNS does.
    unbound = unbound.replace("forward-zone:", "server:\n    do-not-query-localhost: no\n\nforward-zone:")
    node.write(f"{folder}/unbound.conf", unbound.replace(f"forward-addr: {node.plan.vip}", f"forward-addr: {_STUB}"))
    healing.restart(node, "pod-coredns.service")
    answer = node.pod("client").ask(node.plan.pod("coredns").address, timeout=2)
    if answer.good:
        raise LabError("the fault is not live: the pod client is answered")
    return f"the pod coredns asks {_STUB}, which is itself there; client -> coredns: {answer}"


FAULTS = (
    Fault(
        "resolver-loop",
        "dnsmasq asks systemd-resolved's stub for most names, and systemd-resolved asks dnsmasq",
        _through_resolved,
    ),
    Fault(
        "resolver-loop-pod",
        "the node's stub file as resolv.conf of the pod coredns: 127.0.0.53 is the pod itself there",
        _pod_with_stub,
    ),
)
