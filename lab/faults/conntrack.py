"""The connection tracking table is full."""

from __future__ import annotations

from lab.faults.fault import ClusterFault, expect_lost
from lab.places import Node
from lab.state import State

_LIMIT = 120

# Flows that were answered are not dropped early to make room. Management is not tracked, as on a node that someone
# has to repair while this lasts.
_FILL = f"""
set -e
nft -f - <<'RULES'
table inet management {{
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        iifname "mgmt0" notrack
    }}
    chain output {{
        type filter hook output priority raw; policy accept;
        oifname "mgmt0" notrack
    }}
}}
RULES
for port in $(seq 20001 {20000 + _LIMIT + 40}); do
    conntrack -I -p tcp -s "$1" -d 172.25.4.9 --sport "$port" --dport 443 --state ESTABLISHED -t 7200 \\
        -u SEEN_REPLY,ASSURED >/dev/null 2>&1
done
sysctl --quiet --write net.netfilter.nf_conntrack_max={_LIMIT}
"""


def _full(_: State, node: Node) -> str:
    node.run(["sh", "-c", _FILL, "sh", node.plan.pod("client").address], timeout=180.0)
    count = node.run(["sysctl", "--values", "net.netfilter.nf_conntrack_count"]).stdout.strip()
    return f"{expect_lost(node, 5, 5, queries=5)}; {count} flows, and a limit of {_LIMIT}"


FAULTS = (ClusterFault("conntrack-full", "the connection tracking table is full: new flows are dropped", _full),)
