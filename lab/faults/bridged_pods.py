"""Pods on a bridge, as flannel's and kubenet's are, with a DNS service in front of one; and what bridges lack then.

The bridge, its two pods, kube-proxy's rules and a stand-in for the kubelet are the stage; the fault is one sysctl.
"""

from __future__ import annotations

import time

from lab.faults import stand_ins
from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node

SERVICE = "10.32.0.10"
_CLIENT, _RESOLVER = "10.244.7.2", "10.244.7.3"

_RESOLVES = """\
server:
    chroot: ""
    username: ""
    use-syslog: no
    interface: 0.0.0.0
    access-control: 0.0.0.0/0 allow
    local-zone: "example.com." redirect
    local-data: "example.com. A 192.0.2.80"
"""

# $1 the client's address, $2 the resolver's.
_STAGE = """
ip link add cni0 type bridge
ip address add 10.244.7.1/24 dev cni0
ip link set cni0 up
pod() {
    ip netns add "cni-$1"
    ip link add "veth$1" type veth peer name eth0 netns "cni-$1"
    ip link set "veth$1" master cni0 up
    ip -n "cni-$1" link set lo up
    ip -n "cni-$1" link set eth0 up
    ip -n "cni-$1" address add "$2/24" dev eth0
    ip -n "cni-$1" route add default via 10.244.7.1
    name=$1
    shift 2
    systemd-run --quiet --unit="pod-$name" --slice=kubepods-besteffort.slice \\
        -p NetworkNamespacePath="/run/netns/cni-$name" "$@"
}
pod asking "$1" sleep infinity
pod answering "$2" unbound -d -p -c /etc/pods/answering/unbound.conf
"""

_SVC, _SEP = "KUBE-SVC-TCOU7JCQXEZGVUNU", "KUBE-SEP-LSIUSH75GR7U3TUR"
_DNS = '-m comment --comment "kube-system/kube-dns:dns"'
_RULES = f"""\
*nat
:KUBE-SERVICES - [0:0]
:{_SVC} - [0:0]
:{_SEP} - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d {SERVICE}/32 -p udp {_DNS} -m udp --dport 53 -j {_SVC}
-A {_SVC} {_DNS} -j {_SEP}
-A {_SEP} -p udp {_DNS} -m udp -j DNAT --to-destination {_RESOLVER}:53
COMMIT
"""

_ASK = ["ip", "netns", "exec", "cni-asking", "dig", "+tries=3", "+time=1", "+short", f"@{SERVICE}", "www.example.com"]


def _bridge_without_iptables(node: Node, _: Mode | None) -> str:
    node.write("/etc/pods/answering/unbound.conf", _RESOLVES)
    stand_ins.kubelet(node)
    node.run(["sh", "-ec", _STAGE, "sh", _CLIENT, _RESOLVER])
    node.run(["iptables-nft-restore", "--noflush"], stdin=_RULES)
    deadline = time.monotonic() + 15
    # The resolver has only just been started.
    while not (answered := _answered(node)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if not answered:
        raise LabError(f"the service does not answer with iptables on the bridge either: pod -> {SERVICE}")
    node.run(["sysctl", "--quiet", "--write", "net.bridge.bridge-nf-call-iptables=0"])
    if _answered(node):
        raise LabError(f"the fault is not live: pod -> {SERVICE} is answered")
    return f"pod -> {SERVICE} is answered by {_RESOLVER}, which it did not ask"


def _answered(node: Node) -> bool:
    return "192.0.2.80" in node.run(_ASK, check=False).stdout


FAULTS = (
    Fault(
        "bridge-nf-off",
        "pods on a bridge, and bridge-nf-call-iptables=0: answers of a pod on the same bridge keep its address",
        _bridge_without_iptables,
    ),
)
