"""Whether a cluster's node does what it should: the first question that is not answered, in one sentence."""

from __future__ import annotations

import re

from lab import healing
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.places import Node, Place

_REAL_SERVER = re.compile(r"^-a -([tu]) (\S+) -r (\S+):\d+ ", re.MULTILINE)


def trouble(node: Node, resolvers: tuple[str, ...]) -> str:
    """One sentence about what does not work on `node`, with `resolvers` behind the DNS service; empty if all does."""
    if not node.active("kube-proxy.service"):
        return f"{node.name}: kube-proxy.service is not active"
    table = node.run(["ipvsadm", "-Sn"]).stdout
    for protocol, letter in (("UDP", "u"), ("TCP", "t")):
        service = f"{CLUSTER.dns_service}:53"
        known = {server for kind, name, server in _REAL_SERVER.findall(table) if (kind, name) == (letter, service)}
        if known != set(resolvers):
            return f"{node.name}: IPVS has {sorted(known)} behind {service} over {protocol}, not {sorted(resolvers)}"
    for place in (node, node.pod("client")):
        for tcp in (False, True):
            answer = place.ask(CLUSTER.dns_service, SAMPLE, tcp=tcp)
            if answer.addresses != (CLUSTER.api_service,):
                return f"{place.name} -> {CLUSTER.dns_service} over {'TCP' if tcp else 'UDP'}: {answer}"
    return healing.trouble(node)


def lost(place: Place, server: str, name: str, *, queries: int, tcp: bool = False) -> int:
    """Ask `queries` times, each from a port of its own with one second to wait; returns how many are not answered.

    One dig(1) asks them all: in an emulated machine the start of a program costs more than a question.
    """
    script = 'i=0; while [ $i -lt "$1" ]; do echo "$2 A"; i=$((i+1)); done | dig +tries=1 +time=1 "$3" "@$4" -f -'
    transport = "+tcp" if tcp else "+notcp"
    done = place.run(
        ["sh", "-c", script, "sh", str(queries), name, transport, server], check=False, timeout=queries * 2.0 + 60.0
    )
    return queries - done.stdout.count("status: NOERROR")
