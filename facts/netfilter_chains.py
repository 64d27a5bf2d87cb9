"""Whose a chain is: kube-proxy's and the kubelet's by an allow-list, everybody else's by their names' shape.

The patterns are POSIX extended regular expressions without intervals (`{16}`): the node's awk, which may be an old
mawk, and Python read the same ones.

Sources: kubernetes pkg/proxy/iptables/proxier.go, pkg/proxy/ipvs/proxier.go, pkg/kubelet/kubelet_network_linux.go.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Owner = Literal["kube", "kube-router", "calico", "cilium", "flannel", "cni", "docker", "firewalld", "admin"]
OWNERS: tuple[Owner, ...] = get_args(Owner)

#: The allow-list (KUBE-...). A chain with any other name is foreign, KUBE-ROUTER-INPUT and KUBE-NWPLCY-* too.
NAMED = (
    "SERVICES",
    "EXTERNAL-SERVICES",
    "NODEPORTS",
    "NODE-PORT",
    "POSTROUTING",
    "MARK-MASQ",
    "MARK-DROP",
    "FORWARD",
    "FIREWALL",
    "PROXY-FIREWALL",
    "SOURCE-RANGES-FIREWALL",
    "FIRE-WALL",
    "LOAD-BALANCER",
    "IPVS-FILTER",
    "IPVS-OUT-FILTER",
    "PROXY-CANARY",
    "KUBELET-CANARY",
    "IPTABLES-HINT",
)
#: One chain for each service or endpoint: the name ends with 16 characters of a hash.
HASHED = "^KUBE-(SVC|SVL|SEP|FW|XLB|EXT)-" + "[A-Z0-9]" * 16 + "$"
OWNED = f"^KUBE-({'|'.join(NAMED)})$"

#: The chains by which a program finds the backend of the kubelet or, after a flush, that it has to write again.
HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY")

#: Chains of others, first match first; what matches none is an administrator's.
FOREIGN: tuple[tuple[Owner, str], ...] = (
    ("kube-router", "^KUBE-(ROUTER-|POD-FW-|NWPLCY-)"),
    ("calico", "^cali[-:]"),
    ("cilium", "^(OLD_)?CILIUM_"),
    ("flannel", "^FLANNEL-"),
    ("cni", "^CNI-"),
    ("docker", "^DOCKER(-|$)"),
    (
        "firewalld",
        "^((INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)_(direct|(IN_|OUT_)?(ZONES|POLICIES_))|(IN|FWD[IO]?|PRE|POST)_)",
    ),
)
#: Rules of others in the built-in chains, where the chain that they jump to does not tell.
FOREIGN_RULES: tuple[tuple[Owner, str], ...] = (
    ("calico", '--comment "?cali:'),
    ("cilium", '--comment "?cilium|[io] cilium_'),
    ("flannel", '--comment "?flanneld'),
    ("kube-router", '--comment "?kube-router'),
    ("cni", '--comment "?(CNI |name: )'),
    ("docker", "[io] docker[0-9]"),
)

#: A jump from a built-in chain into an owned one is kube-proxy's or the kubelet's own when its comment says so. The
#: kubelet's jumps to KUBE-FIREWALL carry neither a comment nor a condition.
OWN_COMMENT = '--comment "kube(rnetes|-proxy) '
BARE = "KUBE-FIREWALL"

_OWNED = re.compile(OWNED)
_HASHED = re.compile(HASHED)
_FOREIGN = tuple((owner, re.compile(pattern)) for owner, pattern in FOREIGN)


def owner_of(chain: str) -> Owner:
    """Whose the chain is. Only "kube" chains may be flushed and deleted."""
    if _OWNED.search(chain) or _HASHED.search(chain):
        return "kube"
    return next((owner for owner, pattern in _FOREIGN if pattern.search(chain)), "admin")


def is_hashed(chain: str) -> bool:
    """Whether the chain belongs to one service or endpoint (KUBE-SVC-..., KUBE-SEP-... and so on)."""
    return _HASHED.search(chain) is not None
