"""The policy: what dnsmend wants of the nodes. One key each; this is the only place to edit.

A key in `group_data/GROUP.py` or in the inventory wins over this file, `--data KEY=VALUE` over everything.
"""

# --- How nodes are reached -------------------------------------------------------------------------------------------

# Facts and changes need root: over sudo without a password (a password would show in the node's `ps`).
_sudo = True

# The shell that sudo starts there. "/usr/local/sbin/dnsmend-read" for an account that may only look, and
# "/usr/local/sbin/dnsmend-fix" for one that may also fix: deploys/privileges.py installs them. "sh": for root.
_shell_executable = "sh"

# Seconds after which one command on a node is given up, so that a node that hangs does not hold up the run for ever.
# Reading has a shorter time of its own: node_deadline.
_timeout = 900

# An unknown or a changed host key ends the connection. "accept-new" takes an unknown one, once.
ssh_strict_host_key_checking = "yes"

# A connection that sshd cuts off, because many come at once (its MaxStartups; a bastion's, say), is tried again so
# often, after a random number of seconds between these. One that is refused, or not answered within 10 s, is not.
ssh_connect_retries = 8
ssh_connect_retry_min_delay = 0.2
ssh_connect_retry_max_delay = 3.0

# Seconds that a node has to tell what is on it, and to count, each in one SSH command that takes about one. A node that
# is slower is not known in this run, and holds up no other one.
node_deadline = 25

# What paramiko 4 would still take, and nobody needs: RSA keys with SHA-1 (CVE-2026-44405). See SECURITY.md.
ssh_paramiko_connect_kwargs = {
    "disabled_algorithms": {
        "keys": ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com"],
        "pubkeys": ["ssh-rsa", "ssh-rsa-cert-v01@openssh.com"],
    }
}

# --- What is asked ---------------------------------------------------------------------------------------------------

# The addresses on which the nodes' dnsmasq serves the cluster. None: discovered, as the name servers in resolv.conf, in
# systemd-resolved and in the cluster's pods that are an address of a node, and that no other program serves: neither by
# itself nor, as libvirt, LXC, LXD, Incus, Multipass and NetworkManager do, by a dnsmasq of its own. Otherwise a list:
# ["172.25.4.1"]. Such a program's address is judged if it stands there, and its dnsmasq is not edited.
dns_vips = None

# The addresses of the cluster's DNS services. None: of the EndpointSlices (kubectl), and without them of the services
# on port 53 that any node's kube-proxy has in iptables or IPVS, those in a pod's resolv.conf; where that names none of
# them, and with NodeLocal DNSCache, all of the EndpointSlices, or those with a CoreDNS pod behind them as well. Where
# kube-proxy has none (Cilium, OVN-Kubernetes or kube-router in its place, its nftables mode): what the resolv.conf of
# most pods names, and neither the nodes' own nor CoreDNS's. Otherwise a list: ["10.32.0.10"].
dns_services = None

# The name that a probe asks for (type A), in addition to dnsmasq's own version.bind, which needs no upstream.
probe_name = "google.com"

# Names to ask for in domains with an upstream of their own (server=/example.com/10.0.0.1): {"example.com":
# "www.example.com"}. For a domain without one its SOA record is asked for, which every server of a domain has, and
# which nobody has to know, of those whose way leads to that upstream; a name is asked for of everybody. NOERROR and
# NXDOMAIN are answers; SERVFAIL and REFUSED are none, whoever says so.
probe_names: dict[str, str] = {}

# A name of the cluster, asked from its DNS services (10.32.0.10, say), where the nodes have kube-proxy.
service_name = "kubernetes.default.svc.cluster.local"

# Questions per source, destination and protocol, and the seconds that each may take.
probe_tries = 20
probe_deadline = 2.0

# Pods of a node that are asked from, at most: one for each way into the host stack comes first.
probe_pods = 3

# Questions per second that a node sends, and that all nodes together send to one address in a diagnosis, at most: nodes
# that ask the same server take turns. Less for small or emulated nodes, or for a server that limits its clients.
probe_rate = 1000

# The smallest share of lost questions that a diagnosis must not miss (it does once in a thousand times). 0.05 takes 135
# questions per hop over UDP, 0.2 takes 31, 0.02 takes 342. What loses something is asked more anyway.
probe_smallest_loss = 0.05

# A folder of this machine: a diagnosis asks the hops that lose questions again while tcpdump captures on their nodes
# (2000 packets and 60 s at most, of DNS only; where none loses, a node's first hop; 10 nodes at most), and keeps the
# pcap files in the folder. None: no captures. deploys/diagnose.py --data capture=runs/captures
capture = None

# Seconds for which deploys/verify.py asks again and again. 0: once.
verify_soak = 0

# --- How much a load test asks (deploys/blast.py) ---------------------------------------------------------------------

# Questions per second, from the node and then from a pod, one rate after the other, and the seconds of each. A node is
# never asked more than 50000 questions or for more than 60 s in a run, nor any faster once half of them are lost.
blast_rates = [10, 100, 500, 1000]
blast_seconds = 3.0

# The name that is asked for (type A). None: what is answered without an upstream: version.bind at a node's dnsmasq,
# `service_name` at the cluster's DNS service.
blast_name = None

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
# None: left alone. kube-proxy's own setting (conntrack.maxPerCore) should not be lower. It survives a boot where
# nf_conntrack is loaded early (a file of /etc/modules-load.d) or kube-proxy sets it.
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

# --- What a new node is held against (deploys/onboard.py) -------------------------------------------------------------

# The nodes that are new; a group `new` of the inventory does the same. Where neither names one, those of --limit.
new_nodes: list[str] = []

# kube-proxy's mode: "ipvs", "iptables" or "nftables". None: as on the other nodes that are read.
kube_proxy_mode = None

# Kernel settings that a new node has to have, as text. Of what is not here, forwarding, rp_filter and
# bridge-nf-call-* have to be what they are on all other nodes, where those agree. Several words: one space between
# them. What belongs to a module survives a boot where a file of /etc/modules-load.d has it loaded.
kernel_settings = {"net.ipv4.ip_forward": "1"}

# --- The cluster's API -----------------------------------------------------------------------------------------------

# kubectl, with its path or as found in the PATH: with it the checks compare with the EndpointSlices, and the steps
# below can be had. None: the API is not asked.
kubectl = None

# Its kubeconfig. None: kubectl's own choice, and /etc/kubernetes/admin.conf on a node.
kubeconfig = None

# The node of the inventory on which kubectl runs, as root (a control-plane node, say). None: this machine.
kubectl_node = None

# Where the cluster's DNS services and CoreDNS are.
dns_namespace = "kube-system"

# A node that is going to be changed takes no new pods meanwhile. Only what this run has cordoned is uncordoned, and the
# last node with a healthy CoreDNS is refused.
cluster_cordon = False

# It is drained as well, as PodDisruptionBudgets allow, within so many seconds; emptyDir volumes are lost. None of the
# repairs needs that: established connections live on.
cluster_drain = False
drain_timeout = 300

# Ready endpoints that each DNS service must have before the next wave begins. 0: not waited for.
dns_endpoints = 0

# CoreDNS's pods are replaced one after the other once all waves are done, if one of them has changed anything.
coredns_rollout = False

# What is restarted then ("deployment.apps/coredns"). None: what is labelled k8s-app=kube-dns.
coredns_workload = None

# Seconds that CoreDNS has, to become ready or to have its endpoints.
coredns_wait = 300

# --- What keeps watch (deploys/prevent.py) ----------------------------------------------------------------------------

# What a node does at boot when iptables is not what it was when its guard was installed, or the other backend holds
# rules of Kubernetes:
#   "report"   a failed unit, a line in the journal and a metric; the kubelet starts all the same
#   "block"    the same, and the kubelet and kube-proxy do not start
#   "restore"  as "report", but the alternatives are first set back to what they were; never rules, and only at boot
guard_boot = "report"

# Where node_exporter reads its textfiles (--collector.textfile.directory). Made where it is missing.
guard_metrics = "/var/lib/node_exporter/textfile_collector"

# What is kept in the cluster, in `dns_namespace` (deploys/cluster_objects.py, which needs kubectl):
#   "probe"           a CronJob that asks the cluster's DNS each minute from a pod; it needs `dns_probe_image`
#   "budget"          a PodDisruptionBudget: a drain takes one CoreDNS pod after the other
#   "spread"          CoreDNS's pods on different nodes, as far as there are any; replaces them once, one by one
#   "network-policy"  CoreDNS reaches DNS at the nodes' VIPs and nothing else there, the API server, and nobody else
#   "cilium-policy"   the same with Cilium, which knows a VIP as a node, not as an address
#   "node-condition"  a check for node-problem-detector: a node whose guard loses DNS says so in its conditions
cluster_objects = ["budget", "spread"]

# The image of the probe, with a digest if you like: anything with sh and awk, and bash, python3 or dig.
dns_probe_image = None

# How CoreDNS's pods are spread: "topology" (a topology spread constraint) or "anti-affinity".
coredns_spread = "topology"

# --- How it is rolled out --------------------------------------------------------------------------------------------

# Nodes in the first wave, and in each wave after it (a number, or a share of the fleet such as "20%").
canary_nodes = 1
wave_nodes = "20%"

# Nodes that go last, whatever the order of the inventory.
last_nodes: list[str] = []

# A node takes its change back by itself when the controller has not confirmed it after this many seconds. A run with
# a wave that plainly takes longer changes nothing.
undo_after = 180
