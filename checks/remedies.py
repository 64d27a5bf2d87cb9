"""What fixes an incident: the pyinfra command to type, or the advice where nothing of ours does it."""

from __future__ import annotations

from collections.abc import Sequence

from checks.diagnosis import Hop, Stage

_FIX_DNS = "pyinfra inventory deploys/fix_dns.py -y"
#: What deploys/fix_dns.py does by itself where a check fails.
_FIXED = (
    "alternatives.backend",
    "conntrack.flush",
    "dnsmasq.interface_policy",
    "ipvs.resync",
    "kube_proxy.restart",
    "netfilter.remove_stale",
    "sysctl.settings",
)

_SYSCTL = "pyinfra inventory {limit} -y server.sysctl"
_CAPTURE = "see where the packets end: pyinfra -y inventory deploys/diagnose.py --data capture=DIR"

#: Where nothing of ours repairs it, or more has to be said than the command.
_ADVICE = {
    "CONNTRACK-001": f"{_FIX_DNS}; then find who fills the table: conntrack -L",
    "CONNTRACK-003": "a DNS cache on each node that pods ask without a DNAT, or a kernel from 5.7 on",
    "DNSMASQ-001": _CAPTURE,
    "DNSMASQ-002": "correct the line that is named, and prove it with dnsmasq --test before the next restart",
    "DNSMASQ-003": "journalctl --unit=dnsmasq on the node says why it does not run",
    "DNSMASQ-004": "restart dnsmasq, once dnsmasq --test has accepted its files",
    "FIREWALL-001": "let the pods pass where it is named: whoever set that policy has to change it",
    "FIREWALL-002": "systemctl disable --now firewalld, or the pods' networks in its zone trusted",
    "IPTABLES-003": "remove the rule by hand: it is not Kubernetes', and whose it is has to be asked",
    "IPTABLES-005": "the same iptables from 1.8.3 on for all that write rules; then flush the chain that is named",
    "IPTABLES-006": "the same iptables version for all that write rules; then delete the rule",
    "IPVS-001": "find what takes the packets before IPVS: rules in PREROUTING, or a program of Cilium's",
    "IPVS-003": "kubectl --namespace kube-system describe pods --selector k8s-app=kube-dns says why none is ready",
    "IPVS-004": "look at the CoreDNS pod that is named, its log and the network to its node",
    "KERNEL-001": "rp_filter=0 for the link that is named and for all, in a file of /etc/sysctl.d that sorts last",
    "KERNEL-002": f"{_SYSCTL} key=net.bridge.bridge-nf-call-iptables value=1 persist=true, with br_netfilter loaded",
    "KERNEL-003": f"{_SYSCTL} key=net.ipv4.neigh.default.gc_thresh3 value=65536 persist=true",
    "KERNEL-004": "ethtool -K LINK tx-checksum-ip-generic off for the tunnel on the nodes that send",
    "KUBEPROXY-001": "start kube-proxy on the node, as its cluster does",
    "KUBEPROXY-002": f"{_FIX_DNS}; if its sync fails again, kube-proxy's log says why",
    "NETWORKD-001": "Unmanaged=yes for the network plugin's links, in a file of /etc/systemd/network that sorts first",
    "RESOLVER-001": "take one server out of the circle: the evidence names the line of each",
}

_BY_STAGE: dict[Stage, str] = {
    "pod to service": _CAPTURE,
    "host to service": _CAPTURE,
    "pod to endpoint": "look at that CoreDNS pod, its log and the network to its node",
    "endpoint to upstream": "look at the upstream and the way to it: the Corefile's forward or the pod's resolv.conf"
    " names it",
    "host to stub": "resolvectl status on the node, and journalctl --unit=systemd-resolved",
    "host to dnsmasq": _CAPTURE,
    "dnsmasq to upstream": "ask who runs that resolver, and look at the way to it: dnsmasq's server= lines name it",
}


def fix(check: str, operation: str, nodes: Sequence[str]) -> str:
    """The command to type, or advice in one sentence.

    + operation: the root finding's, "" where nothing of ours repairs it
    + nodes: those to repair
    """
    if operation in _FIXED and not _ADVICE.get(check, "").startswith(_FIX_DNS):
        return _FIX_DNS
    return _ADVICE.get(check, "").format(limit=" ".join(f"--limit {name}" for name in nodes))


def look(hop: Hop) -> str:
    """Where to look further, where only the hop is known."""
    return _BY_STAGE[hop["stage"]]
