"""Firewalls in the way of pods: a policy that drops what is forwarded, firewalld, and rules without an end."""

from __future__ import annotations

from collections.abc import Callable

from lab.faults import stand_ins
from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node
from lab.plan import NodePlan

# Copies that an iptables makes which does not find its own rule: one with each sync of the kubelet, for hours.
_COPIES = 1200

_DROPS_MARKED = (
    '-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets"'
    " -m mark --mark 0x8000/0x8000 -j DROP"
)

# As firewalld 1.3 writes them with its default zone, without what does not matter here.
_FIREWALLD = """\
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_FORWARD_POLICIES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD_POLICIES {
		iifname "mgmt0" return
	}
}
"""


def _forward_drop(backend: str) -> Callable[[Node, Mode | None], str]:
    def apply(node: Node, _: Mode | None) -> str:
        _elsewhere(node, good=True)
        node.run([f"iptables-{backend}", "--wait", "5", "--policy", "FORWARD", "DROP"])
        return _elsewhere(node, good=False)

    return apply


def _other(node: Node) -> str:
    """Another node's address for DNS."""
    return NodePlan(1 if node.plan.index == 0 else 0).vip


def _elsewhere(node: Node, *, good: bool) -> str:
    """Ask another node's address from the pod `client`. Raises LabError if that ends otherwise than told."""
    vip = _other(node)
    answer = node.pod("client").ask(vip)
    if answer.good != good:
        raise LabError(f"the fault is not live: pod -> {vip}: UDP {answer}")
    return f"pod -> {vip}: UDP {answer}"


def _firewalld(node: Node, _: Mode | None) -> str:
    stand_ins.kubelet(node)
    node.run(["systemd-run", "--quiet", "--unit=firewalld", "sleep", "infinity"])
    node.run(["nft", "-f", "-"], stdin=_FIREWALLD)
    said = node.pod("client").run(["dig", "+tries=1", "+time=1", f"@{_other(node)}", "www.example.com"], check=False)
    if "unreachable" not in said.stdout:
        raise LabError(f"the fault is not live: pod -> {_other(node)}: {said.stdout}")
    return f"pod -> {_other(node)}: UDP unreachable"


def _copies(node: Node, _: Mode | None) -> str:
    stand_ins.kubelet(node)
    head = ("*filter", ":KUBE-FIREWALL - [0:0]", "-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL")
    rules = "\n".join([*head, *[_DROPS_MARKED] * _COPIES, "COMMIT", ""])
    node.run(["iptables-nft-restore", "--noflush"], stdin=rules)
    found = node.run(["iptables-nft-save", "-t", "filter"]).stdout.count("0x8000/0x8000")
    if found != _COPIES:
        raise LabError(f"the rules have not arrived: {found} of {_COPIES}")
    return f"{found} copies of a rule of the kubelet"


FAULTS = (
    Fault(
        "forward-drop-nft", "the policy of FORWARD is DROP in nft: pods reach no other machine", _forward_drop("nft")
    ),
    Fault(
        "forward-drop-legacy",
        "the policy of FORWARD is DROP in legacy, where `iptables -S` of the node does not show it",
        _forward_drop("legacy"),
    ),
    Fault("firewalld", "firewalld's table, which rejects what it does not know, and a unit of its name", _firewalld),
    Fault("rules-repeated", "1200 copies of a rule of the kubelet (lose nothing by themselves)", _copies),
)
