"""The policy: what dnsmend wants of the nodes. One key each; this is the only place to edit.

A key in `group_data/GROUP.py` or in the inventory wins over this file, `--data KEY=VALUE` over everything.
"""

# --- How nodes are reached -------------------------------------------------------------------------------------------

# Facts and changes need root: over sudo without a password (a password would show in the node's `ps`).
_sudo = True

# An unknown or a changed host key ends the connection. "accept-new" takes an unknown one, once.
ssh_strict_host_key_checking = "yes"

# --- What is asked ---------------------------------------------------------------------------------------------------

# The addresses on which the nodes' dnsmasq serves the cluster. None: discovered, as the name servers in resolv.conf, in
# systemd-resolved and in the pods that are an address of a node. Otherwise a list: ["172.25.4.1"].
dns_vips = None

# The name that a probe asks for (type A), in addition to dnsmasq's own version.bind, which needs no upstream.
probe_name = "google.com"

# A name of the cluster, asked from its DNS services (10.32.0.10, say), where the nodes have kube-proxy.
service_name = "kubernetes.default.svc.cluster.local"

# Questions per source, destination and protocol, and the seconds that each may take.
probe_tries = 20
probe_deadline = 2.0

# Pods of a node that are asked from, at most: one for each way into the host stack comes first.
probe_pods = 3

# Seconds for which deploys/verify.py asks again and again. 0: once.
verify_soak = 0

# --- What is wanted --------------------------------------------------------------------------------------------------

# Which iptables the nodes of a cluster use, IPv4 and IPv6 alike, chosen for good in update-alternatives; what
# kube-proxy and the kubelet have left in the other backend is removed, and nothing of anybody else:
#   "match-majority"  the backend that more than half of the nodes have
#   "match-kubelet"   the backend that the node's kubelet writes to
#   "legacy", "nft"   that one, on every node; a node that cannot have it is refused
#   None              left alone
# With match-*, nothing is done where every node agrees and no rule is stale.
iptables_backend = "match-majority"

# Tracked connections that a node has room for once its table is full (each takes about 400 bytes); never lowered.
# None: left alone. kube-proxy's own setting (conntrack.maxPerCore) should not be lower.
conntrack_max = 262144

# How dnsmasq is told whom to answer, on a node where pods are not answered (a healthy node is left as it is):
#   "except-lo"     except-interface=lo: everything but 127.0.0.1. Refused where the host itself asks 127.0.0.1.
#   "bind-dynamic"  bind-dynamic, and except-interface= for `dnsmasq_foreign_interfaces`.
#   "named"         interface= for `dnsmasq_interfaces` and nothing else.
dnsmasq_interface_policy = "except-lo"

# For "named". None: the interfaces that hold the VIPs, those on which pods, LAN and host arrive, as found on the node.
dnsmasq_interfaces = None

# For "bind-dynamic": interfaces that other dnsmasq processes serve. Without any except-interface, local-service would
# come back and reject pods.
dnsmasq_foreign_interfaces = ["virbr*", "lxcbr*", "lxdbr*"]

# --- How it is rolled out --------------------------------------------------------------------------------------------

# Nodes in the first wave, and in each wave after it (a number, or a share of the fleet such as "20%").
canary_nodes = 1
wave_nodes = "20%"

# Nodes that go last, whatever the order of the inventory.
last_nodes: list[str] = []

# A node takes its change back by itself when the controller has not confirmed it after this many seconds.
undo_after = 180
