"""Packets of one new flow on two processors at once: conntrack drops the one that comes second.

The kernel of the lab settles that race for UDP (since Linux 5.7), and for TCP it never does: two equal SYN packets from
two processors stand for the two queries of a resolver library. What is counted, and what is dropped, is the same.
"""

from __future__ import annotations

import time

from lab.faults import stand_ins
from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node

# Something has to ask for connection tracking, as kube-proxy's NAT does.
_TRACKING = """\
table inet tracking {
	chain input {
		type filter hook input priority 0; policy accept;
		ct state new counter
	}
}
"""

# Both processes wait for each other before each packet: two hundred pairs a second, of which some meet.
_PAIRS = """
import mmap, os, socket, struct, sys, time

target = sys.argv[1]
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect((target, 53))
ends = socket.inet_aton(asking.getsockname()[0]) + socket.inet_aton(target)

def total(data):
    found = sum(struct.unpack(f"!{len(data) // 2}H", data))
    found = (found >> 16) + (found & 0xFFFF)
    return ~(found + (found >> 16)) & 0xFFFF

def syn(port):
    header = struct.pack("!HHIIBBHHH", port, 53, 1, 0, 5 << 4, 2, 1024, 0, 0)
    right = total(ends + struct.pack("!BBH", 0, 6, len(header)) + header)
    return header[:16] + struct.pack("!H", right) + header[18:]

turns = mmap.mmap(-1, 4096)
mine = 1 if os.fork() else 0
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[mine]})
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
turn = 0
while True:
    turn += 1
    packet = syn(20000 + turn % 40000)
    time.sleep(0.005)
    struct.pack_into("Q", turns, mine * 64, turn)
    while struct.unpack_from("Q", turns, (1 - mine) * 64)[0] < turn:
        os.sched_yield()
    raw.sendto(packet, (target, 0))
"""


def _race(node: Node, _: Mode | None) -> str:
    stand_ins.kubelet(node)
    node.run(["nft", "-f", "-"], stdin=_TRACKING)
    before = _failed(node)
    unit = ["systemd-run", "--quiet", "--unit=conntrack-race"]
    unit += ["-p", f"NetworkNamespacePath={node.plan.pod('client').namespace}"]
    node.run([*unit, "python3", "-c", _PAIRS, node.plan.vip])
    deadline = time.monotonic() + 10
    while (now := _failed(node)) < before + 2:
        if time.monotonic() > deadline:
            raise LabError(f"the fault is not live: insert_failed was {before}, and is {now}")
        time.sleep(0.1)
    return f"{now - before} packets were dropped at insertion"


def _failed(node: Node) -> int:
    """conntrack's `insert_failed` of all processors."""
    names, *rows = [line.split() for line in node.read("/proc/net/stat/nf_conntrack").splitlines()]
    return sum(int(row[names.index("insert_failed")], 16) for row in rows)


FAULTS = (Fault("conntrack-race", "packets of one flow race on two processors: conntrack drops the second", _race),)
