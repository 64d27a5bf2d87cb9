"""How the kernel is set, and what it throws away: nothing of Kubernetes is needed for these."""

from __future__ import annotations

import time

from lab.faults.fault import Fault, Mode, expect_pods
from lab.host import LabError
from lab.places import Node

# What a pod sends is not redirected to cilium_host any more, and arrives on its own link; the way back to the pod is
# still cilium_host. That is what a node of Cilium's is like without endpoint routes.
_STRICT = """
tc filter delete dev "$1" ingress
sysctl --quiet --write "net.ipv4.conf.$1.rp_filter=1"
"""

# Ten datagrams a second, whose checksum is always wrong: the payload changes, it does not.
_SPOILED = """
import itertools, socket, struct, sys, time
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
for number in itertools.count():
    payload = struct.pack("!Q", number)
    raw.sendto(struct.pack("!HHHH", 40000, 53, 8 + len(payload), 1) + payload, (sys.argv[1], 0))
    time.sleep(0.1)
"""


def _rp_filter(node: Node, _: Mode | None) -> str:
    pod = node.plan.pod("client")
    node.run(["sh", "-ec", _STRICT, "sh", pod.interface])
    seen = expect_pods(node, "timeout", "timeout")
    return f"{pod.interface} is strict, and {pod.address} is behind cilium_host: {seen}"


def _bad_checksums(node: Node, _: Mode | None) -> str:
    pod = node.plan.pod("client")
    before = _wrong(node)
    unit = ["systemd-run", "--quiet", "--unit=bad-checksums", "-p", f"NetworkNamespacePath={pod.namespace}"]
    node.run([*unit, "python3", "-c", _SPOILED, node.plan.vip])
    deadline = time.monotonic() + 10
    while (now := _wrong(node)) < before + 2:
        if time.monotonic() > deadline:
            raise LabError(f"the fault is not live: {now - before} datagrams with a wrong checksum have arrived")
        time.sleep(0.1)
    return f"{now - before} datagrams with a wrong checksum were thrown away"


def _wrong(node: Node) -> int:
    names, values = [line.split() for line in node.read("/proc/net/snmp").splitlines() if line.startswith("Udp:")]
    return int(values[names.index("InCsumErrors")])


FAULTS = (
    Fault("rp-filter-strict", "rp_filter=1 on a pod's link, to which the route is through cilium_host", _rp_filter),
    Fault("bad-checksums", "UDP datagrams with a wrong checksum arrive (they lose nothing of others)", _bad_checksums),
)
