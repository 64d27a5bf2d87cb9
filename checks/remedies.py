"""What fixes an incident: the pyinfra command to type, or the advice where nothing of ours does it.

A fix is copied into a shell: what is said beside a command is a comment there, and a sentence has no quotes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from checks import kernel_003
from checks.diagnosis import Hop, Stage
from facts.neighbours import Neighbours
from facts.snapshot import Snapshot

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

_CAPTURE = "pyinfra -y inventory deploys/diagnose.py --data capture=DIR  # shows where the packets end"
#: Entries of a neighbour table that OpenShift's nodes have room for.
_NEIGHBOURS = 65536

#: Where nothing of ours repairs it, or more has to be said than the command.
_ADVICE = {
    "CONNTRACK-003": "a DNS cache on each node that pods ask without a DNAT, or a kernel from 5.7 on",
    "DNSMASQ-001": _CAPTURE,
    "DNSMASQ-002": "correct the line that is named, and prove it with dnsmasq --test before the next restart",
    "DNSMASQ-003": "journalctl --unit=dnsmasq  # on the node: says why it does not run",
    "DNSMASQ-004": "restart dnsmasq, once dnsmasq --test has accepted its files",
    "FIREWALL-001": "let the pods pass where it is named: whoever set that policy has to change it",
    "FIREWALL-002": "systemctl disable --now firewalld  # on the node; or trust the networks of the pods in its zone",
    "IPTABLES-003": "remove the rule by hand: it is none of Kubernetes, and whose it is has to be asked",
    "IPTABLES-005": "the same iptables from 1.8.3 on for all that write rules, then flush the chain that is named",
    "IPTABLES-006": "the same iptables version for all that write rules, then delete the rule",
    "IPVS-001": "find what takes the packets before IPVS: rules in PREROUTING, or a program of Cilium",
    "IPVS-003": "kubectl --namespace kube-system describe pods --selector k8s-app=kube-dns  # why is none ready?",
    "IPVS-004": "look at the CoreDNS pod that is named, its log and the network to its node",
    "KERNEL-001": "rp_filter=0 for the link that is named and for all, in a file of /etc/sysctl.d that sorts last",
    "KERNEL-004": "ethtool -K LINK tx-checksum-ip-generic off  # LINK: the tunnel, on the nodes that send",
    "KUBEPROXY-001": "start kube-proxy on the node, as its cluster does",
    "KUBEPROXY-002": f"{_FIX_DNS}  # if its sync fails again, the log of kube-proxy says why",
    "NETWORKD-001": "Unmanaged=yes for the links of the network plugin in the first file of /etc/systemd/network",
    "RESOLVER-001": "take one server out of the circle: the evidence names the line of each",
}

_BY_STAGE: dict[Stage, str] = {
    "pod to service": _CAPTURE,
    "host to service": _CAPTURE,
    "pod to endpoint": "look at that CoreDNS pod, its log and the network to its node",
    "endpoint to upstream": "look at the upstream and the way to it: forward in the Corefile or the resolv.conf of the"
    " pod names it",
    "host to stub": "resolvectl status; journalctl --unit=systemd-resolved  # on the node",
    "host to dnsmasq": _CAPTURE,
    "dnsmasq to upstream": "ask who runs that resolver, and look at the way to it: server= lines of dnsmasq name it",
}


def fix(check: str, operation: str, nodes: Sequence[str], fleet: Mapping[str, Snapshot | None]) -> str:
    """The command to type, or advice in one sentence.

    + operation: the root finding's, "" where nothing of ours repairs it
    + nodes: those to repair; fleet: what was read of them
    """
    limit = " ".join(f"--limit {shlex.quote(name)}" for name in nodes)
    known = list(filter(None, map(fleet.get, nodes)))
    if check == "CONNTRACK-001":
        maxima = [table["maximum"] for read in known if (table := read["conntrack"]["value"])]
        # It never lowers a maximum: a policy that wants no more than the nodes have changes nothing.
        above = f"{max(maxima)}, what the nodes have now" if maxima else "what the nodes have now"
        return f"{_FIX_DNS}  # needs conntrack_max in group_data/all.py above {above}; who fills it: conntrack -L"
    if check == "KERNEL-002":
        load = f"pyinfra inventory {limit} -y server.modprobe module=br_netfilter"
        last = "  # and br_netfilter in /etc/modules-load.d, or it is gone after a reboot"
        return f"{load} && {_sysctl(limit, 'net.bridge.bridge-nf-call-iptables', 1)}{last}"
    if check == "KERNEL-003":
        return _more_neighbours(limit, [table for read in known for table in read["neighbours"]["value"]])
    if operation in _FIXED and not _ADVICE.get(check, "").startswith(_FIX_DNS):
        return _FIX_DNS
    return _ADVICE.get(check, "")


def _more_neighbours(limit: str, tables: Sequence[Neighbours]) -> str:
    """Room for each family whose table has none; for both where a container does not see them, or none is full now."""
    crowded = [one for one in tables if one["overflows"] or one["entries"] >= kernel_003.FULL * one["limit"]]
    commands = []
    for family in sorted({one["family"] for one in crowded}) or (4, 6):
        # Twice what is full already: nothing is ever lowered.
        most = max([_NEIGHBOURS, *(2 * one["limit"] for one in tables if one["family"] == family)])
        for number, value in ((2, most // 2), (3, most)):
            commands.append(_sysctl(limit, f"net.ipv{family}.neigh.default.gc_thresh{number}", value))
    return " && ".join(commands)


def _sysctl(limit: str, key: str, value: int) -> str:
    return f"pyinfra inventory {limit} -y server.sysctl key={key} value={value} persist=true"


def look(hop: Hop) -> str:
    """Where to look further, where only the hop is known."""
    return _BY_STAGE[hop["stage"]]
