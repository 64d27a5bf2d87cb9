"""Questions and answers that get lost on their way: now and then, or all of them. Rules of nftables drop them."""

from __future__ import annotations

from collections.abc import Callable

from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node
from lab.plan import RESOLVERS

_FILE = "/etc/nftables.d/60-loss.nft"

# As questions arrive, and as answers do: what is dropped on its way out is an error for whoever sends it.
_RULES = """\
table inet loss {{
	chain input {{
		type filter hook input priority 0; policy accept;
		{rules}
	}}
}}
"""
_FROM_PODS = 'iifname {{ "cilium_host", "lxc*" }} udp dport 53 numgen random mod 100 < {share} counter drop'
_FROM_UPSTREAM = "ip saddr {address} udp sport 53 numgen random mod 100 < {share} counter drop"
_ALL_FROM_UPSTREAM = "ip saddr {address} meta l4proto {{ tcp, udp }} th sport 53 counter drop"

#: Asked until one is lost: of 300, 5% lose none once in five million times.
_QUESTIONS = 300

_CAMPUS, _OTHER = RESOLVERS[1], RESOLVERS[2]


def _load(node: Node, rule: str) -> None:
    node.write(_FILE, _RULES.format(rules=rule))
    node.run(["nft", "-f", _FILE])


def _from_pods(share: int) -> Callable[[Node, Mode | None], str]:
    def apply(node: Node, _: Mode | None) -> str:
        _load(node, _FROM_PODS.format(share=share))
        pod, vip = node.pod("coredns"), node.plan.vip
        for number in range(1, _QUESTIONS + 1):
            if pod.ask(vip).kind == "timeout":
                return f"pod coredns -> {vip}: the first question lost was number {number}"
        raise LabError(f"the fault is not live: pod coredns -> {vip} loses none of {_QUESTIONS} questions")

    return apply


def _from_upstream(share: int) -> Callable[[Node, Mode | None], str]:
    def apply(node: Node, _: Mode | None) -> str:
        _load(node, _FROM_UPSTREAM.format(address=_OTHER.address, share=share))
        for number in range(1, _QUESTIONS + 1):
            if node.ask(_OTHER.address, _OTHER.sample).kind == "timeout":
                return f"{node.name} -> {_OTHER.address}: the first question lost was number {number}"
        raise LabError(f"the fault is not live: {node.name} -> {_OTHER.address} loses none of {_QUESTIONS} questions")

    return apply


def _dead_upstream(node: Node, _: Mode | None) -> str:
    _load(node, _ALL_FROM_UPSTREAM.format(address=_CAMPUS.address))
    answers = [node.ask(_CAMPUS.address, _CAMPUS.sample, tcp=tcp) for tcp in (False, True)]
    if any(answer.kind != "timeout" for answer in answers):
        raise LabError(f"the fault is not live: {_CAMPUS.address} answers: {answers[0]}, over TCP {answers[1]}")
    return f"{node.name} -> {_CAMPUS.address}, dnsmasq's server for {_CAMPUS.domain}: UDP and TCP time out"


FAULTS = (
    *(
        Fault(f"loss-{share}", f"{share}% of the UDP questions from pods to dnsmasq are lost", _from_pods(share))
        for share in (5, 20, 50)
    ),
    Fault("upstream-loss-20", "20% of the UDP answers of dnsmasq's default upstream are lost", _from_upstream(20)),
    Fault("upstream-dead", f"dnsmasq's upstream for {_CAMPUS.domain} gives no answer", _dead_upstream),
)
