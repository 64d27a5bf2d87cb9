"""Bringing a node back to the state it had when `up` ended: its files byte by byte, its services, its data path."""

from __future__ import annotations

from lab.host import LabError
from lab.places import Node
from lab.plan import RESOLVERS


def trouble(node: Node) -> str:
    """One sentence about the first question on `node` that is not answered; empty if all of them are."""
    vip = node.plan.vip
    for place in (node, node.pod("client")):
        for tcp in (False, True):
            answer = place.ask(vip, tcp=tcp)
            if not answer.good:
                return f"{place.name} -> {vip} over {'TCP' if tcp else 'UDP'}: {answer}"
    for resolver in RESOLVERS:
        answer = node.ask("127.0.0.53", resolver.sample)
        if answer.addresses != (resolver.answer,):
            return f"{resolver.sample} through 127.0.0.53: {answer}"
    coredns = node.plan.pod("coredns").address
    answer = node.pod("client").ask(coredns)
    return "" if answer.good else f"client -> {coredns} (the resolver pod): {answer}"


def keep_baseline(name: str) -> None:
    pass


def heal(node: Node) -> None:
    raise LabError("not yet")
