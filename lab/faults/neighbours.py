"""The neighbour table is full: only on nodes with a kernel of their own, whose limit is nobody else's."""

from __future__ import annotations

from lab import plan
from lab.faults.fault import ClusterFault, expect_lost
from lab.places import Node
from lab.state import State

_LIMIT = 64

# Neighbours that were heard of within five seconds are not put out to make room (neigh_forced_gc() in
# net/core/neighbour.c), and another link-layer address is news each time. Management's neighbour is permanent, which is
# not counted: who has to repair the node gets there.
_FILL = """
set -e
ping -c 1 -w 10 "$1" >/dev/null
peer=$(ip -4 neighbour show "$1" dev mgmt0 | sed -n 's/.* lladdr \\([^ ]*\\) .*/\\1/p')
ip neighbour replace "$1" lladdr "$peer" nud permanent dev mgmt0
for turn in 1 2; do
    for host in $(seq 60 $((68 + $2))); do
        echo "neighbour replace 172.25.4.$host lladdr 02:00:00:00:0$turn:01 nud reachable dev bond0"
    done >/run/neighbours-$turn
done
for limit in 1 2 3; do sysctl --quiet --write "net.ipv4.neigh.default.gc_thresh$limit=$2"; done
{ echo 'neighbour flush dev bond0'; cat /run/neighbours-1; } | ip -batch - || true
systemd-run --quiet --unit=neighbours sh -c 'while :; do
    for turn in 2 1; do ip -batch /run/neighbours-$turn; sleep 2; done
done 2>/dev/null'
sleep 6
"""


def _full(_: State, node: Node) -> str:
    node.run(["sh", "-c", _FILL, "sh", plan.MANAGEMENT_MACHINE, str(_LIMIT)], timeout=60.0)
    return f"{expect_lost(node, 2, 20, queries=20)}; the table has room for {_LIMIT} neighbours"


FAULTS = (
    ClusterFault("neighbours-full", "the neighbour table is full: packets to hosts not in it are dropped", _full),
)
