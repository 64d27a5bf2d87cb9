"""What the diagnosis has to say of each of the lab's faults: the verdicts' root causes, on the node with the fault."""

from __future__ import annotations

from typing import NamedTuple


class Expected(NamedTuple):
    """What is right for one fault.

    + causes: the root causes of its verdicts, each on the node with the fault; "" is a verdict that names a hop only;
      none for a fault that loses nothing
    + findings: checks that must warn, fail or be unknown on that node although there is no verdict
    + also: root causes of further verdicts on that node that are right as well, and need not be there
    """

    causes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


_FILTER = Expected(("DNSMASQ-001",))
_NOTHING = Expected()

#: By fault; "NAME MODE" where one mode differs.
EXPECTED: dict[str, Expected] = {
    "dnsmasq-except-cilium": _FILTER,
    "dnsmasq-except-cilium-cmdline": _FILTER,
    "dnsmasq-except-cilium-opts": _FILTER,
    "dnsmasq-except-list": _FILTER,
    "dnsmasq-except-twice": _FILTER,
    "dnsmasq-local-service": _FILTER,
    "dnsmasq-local-service-host": _FILTER,
    "dnsmasq-interface-bond0": _FILTER,
    "dnsmasq-listen-vip": _FILTER,
    "dnsmasq-interface-listen": _FILTER,
    "dnsmasq-listen-any": _FILTER,
    "dnsmasq-unparsable": Expected(("DNSMASQ-002",)),
    "dnsmasq-cannot-verify": Expected(("DNSMASQ-001",)),
    "dnsmasq-cannot-start-bind-conflict": Expected(("DNSMASQ-003",)),
    "dnsmasq-cannot-start-port-taken": Expected(("DNSMASQ-003",)),
    "dnsmasq-cannot-start-unknown-interface": Expected(("DNSMASQ-003",)),
    "second-dnsmasq-libvirt": _NOTHING,
    "second-dnsmasq-networkmanager": _NOTHING,
    "endpoint-routes": _FILTER,
    "forward-drop-nft": Expected(("FIREWALL-001",)),
    "forward-drop-legacy": Expected(("FIREWALL-001",)),
    "firewalld": Expected(("FIREWALL-002",)),
    # Its pods ask 127.0.0.53, which is themselves, and dnsmasq does not know their bridge.
    "bridge-nf-off": Expected(("KERNEL-002",), also=("RESOLVER-001", "DNSMASQ-001")),
    "conntrack-race": Expected(("CONNTRACK-003",)),
    "bad-checksums": Expected(findings=("KERNEL-004",)),
    "rules-repeated": Expected(findings=("IPTABLES-005",)),
    "networkd-manages-pods": Expected(findings=("NETWORKD-001",)),
    "rp-filter-strict": Expected(("KERNEL-001",)),
    "loss-5": Expected(("",)),
    "loss-20": Expected(("",)),
    "loss-50": Expected(("",)),
    "upstream-loss-20": Expected(("",)),
    "upstream-dead": Expected(("",)),
    "resolver-loop": Expected(("RESOLVER-001",)),
    "resolver-loop-pod": Expected(("RESOLVER-001",)),
    "tool-missing-python3": _NOTHING,
    "tool-missing-dig": _NOTHING,
    "tool-missing-ss": Expected(findings=("DNSMASQ-001",)),
    "tool-hanging-ss": Expected(findings=("DNSMASQ-001",)),
    "mixed-backends": Expected(("IPTABLES-003",)),
    "node-on-nft": Expected(findings=("IPTABLES-001",)),
    "ip6tables-on-nft": Expected(findings=("IPTABLES-001",)),
    "stale-hint": Expected(findings=("IPTABLES-004",)),
    "vip-missing": Expected(("IPVS-005",)),
    "dead-real-server": Expected(("IPVS-004",)),
    "udp-service-missing": Expected(("IPVS-002",)),
    "stuck-udp-client": Expected(("IPVS-006",)),
    "kube-proxy-stopped": Expected(("KUBEPROXY-001",)),
    "sync-failing": Expected(("KUBEPROXY-002",)),
    "conntrack-full": Expected(("CONNTRACK-001",)),
    "neighbours-full": Expected(("KERNEL-003",)),
    "foreign-rules": _NOTHING,
}

#: Faults that are injected together: on the same node, where they do not undo one another, and on two.
PAIRS: tuple[tuple[str, str], ...] = (
    ("dnsmasq-except-cilium", "dnsmasq-interface-bond0"),
    ("dnsmasq-except-cilium", "dnsmasq-cannot-start-bind-conflict"),
    ("dnsmasq-local-service", "dnsmasq-unparsable"),
    ("dnsmasq-listen-vip", "endpoint-routes"),
    ("dnsmasq-except-list", "tool-missing-ss"),
    ("mixed-backends", "vip-missing"),
    ("dead-real-server", "udp-service-missing"),
    ("kube-proxy-stopped", "conntrack-full"),
    ("stale-hint", "dead-real-server"),
)
#: The same on one node: what each spoils can be told from what the other does.
TOGETHER: tuple[tuple[str, str], ...] = (
    ("second-dnsmasq-libvirt", "dnsmasq-except-cilium"),
    ("tool-missing-python3", "dnsmasq-interface-bond0"),
    ("stale-hint", "vip-missing"),
)
