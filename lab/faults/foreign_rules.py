"""Rules of others on a node: container engines, network plugins, a firewall, an administrator. No fault in itself.

Shaped as their programs write them, and harmless to DNS. Each is in the backend where one meets it; an administrator's
are in both.
"""

from __future__ import annotations

from lab.faults.fault import ClusterFault, expect_lost
from lab.host import LabError
from lab.places import Node
from lab.state import State

_DOCKER = """\
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""

_CALICO = """\
*mangle
:cali-PREROUTING - [0:0]
-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING
-A cali-PREROUTING -m comment --comment "cali:6BJqBjBC7crtA-7-" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A cali-POSTROUTING -m comment --comment "cali:Z-c7XtVd2Bq7s_hA" -j cali-nat-outgoing
COMMIT
*filter
:cali-FORWARD - [0:0]
:cali-INPUT - [0:0]
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j RETURN
-A cali-INPUT -m mark --mark 0x10000/0x10000 -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j ACCEPT
COMMIT
"""

_CILIUM = """\
*nat
:CILIUM_POST_nat - [0:0]
:CILIUM_PRE_nat - [0:0]
-A PREROUTING -m comment --comment "cilium-feeder: CILIUM_PRE_nat" -j CILIUM_PRE_nat
-A POSTROUTING -m comment --comment "cilium-feeder: CILIUM_POST_nat" -j CILIUM_POST_nat
-A CILIUM_POST_nat -s 172.26.9.0/24 ! -d 172.26.0.0/16 ! -o cilium_+ -m comment --comment "cilium masquerade" -j RETURN
COMMIT
*filter
:CILIUM_FORWARD - [0:0]
:CILIUM_INPUT - [0:0]
-A INPUT -m comment --comment "cilium-feeder: CILIUM_INPUT" -j CILIUM_INPUT
-A FORWARD -m comment --comment "cilium-feeder: CILIUM_FORWARD" -j CILIUM_FORWARD
-A CILIUM_FORWARD -o cilium_host -m comment --comment "cilium: any->cluster on cilium_host forward accept" -j ACCEPT
-A CILIUM_INPUT -m mark --mark 0x200/0xf00 -m comment --comment "cilium: ACCEPT for proxy traffic" -j ACCEPT
COMMIT
"""

_FLANNEL = """\
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -s 10.42.0.0/16 -d 10.42.0.0/16 -m comment --comment "flanneld masq" -j RETURN
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.42.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
"""

_KUBE_ROUTER = """\
*filter
:KUBE-NWPLCY-DEFAULT - [0:0]
:KUBE-POD-FW-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-ROUTER-FORWARD - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
-A INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT
-A FORWARD -m comment --comment "kube-router netpol - TEMCG2JMHZYE7H7T" -j KUBE-ROUTER-FORWARD
-A KUBE-NWPLCY-DEFAULT -m comment --comment "mark traffic matching a network policy" -j MARK --set-xmark 0x10000/0x10000
-A KUBE-POD-FW-ABCDEFGHIJKLMNOP -m comment --comment "default deny policy" -j KUBE-NWPLCY-DEFAULT
-A KUBE-ROUTER-FORWARD -d 172.26.9.9/32 -m comment --comment "to the pod" -j KUBE-POD-FW-ABCDEFGHIJKLMNOP
-A KUBE-ROUTER-INPUT -d 172.26.9.0/24 -m comment --comment "allow traffic to cluster IP" -j RETURN
COMMIT
"""

_ADMIN = """\
*mangle
-A PREROUTING -d 203.0.113.53/32 -p udp -m udp --dport 53 -j ACCEPT
COMMIT
*nat
:ADMIN-REDIRECTS - [0:0]
-A PREROUTING -d 203.0.113.10/32 -p tcp -m tcp --dport 8443 -j ADMIN-REDIRECTS
-A ADMIN-REDIRECTS -p tcp -m tcp --dport 8443 -j DNAT --to-destination 203.0.113.20:443
COMMIT
*filter
:ADMIN - [0:0]
-A INPUT -j ADMIN
-A ADMIN -s 203.0.113.0/24 -p tcp -m tcp --dport 9100 -m comment --comment "node exporter, do not touch" -j ACCEPT
-A ADMIN -s 198.51.100.0/24 -j DROP
COMMIT
"""

_ADMIN_V6 = """\
*filter
:ADMIN - [0:0]
-A INPUT -j ADMIN
-A ADMIN -s 2001:db8:1::/48 -p tcp -m tcp --dport 9100 -j ACCEPT
-A ADMIN -s 2001:db8:2::/48 -j DROP
COMMIT
"""

# Sets and verdict maps: what no iptables can express.
_FIREWALLD = """\
table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		iifname "lo" accept
		ip saddr 198.51.100.0/24 tcp dport { 80, 443 } drop
	}
	chain nat_PREROUTING {
		type nat hook prerouting priority dstnat + 10; policy accept;
		ip daddr 203.0.113.30 tcp dport 8443 redirect to :443
	}
}
"""

_LOADED = (
    ("iptables-nft-restore", (_DOCKER, _CALICO, _ADMIN)),
    ("ip6tables-nft-restore", (_ADMIN_V6,)),
    ("iptables-legacy-restore", (_CILIUM, _FLANNEL, _KUBE_ROUTER, _ADMIN)),
    ("ip6tables-legacy-restore", (_ADMIN_V6,)),
)


def _foreign(_: State, node: Node) -> str:
    for tool, texts in _LOADED:
        for text in texts:
            node.run([tool, "--noflush"], stdin=text)
    node.run(["nft", "-f", "-"], stdin=_FIREWALLD)
    count = {}
    for backend in ("nft", "legacy"):
        rules = node.run(["sh", "-c", f"iptables-{backend}-save; ip6tables-{backend}-save"]).stdout
        count[backend] = sum(line.startswith("-A") and "KUBE-SERVICES" not in line for line in rules.splitlines())
    if min(count.values()) < 10:
        raise LabError(f"the rules have not arrived: {count}")
    lost = expect_lost(node, 0, 0, queries=10)
    return f"{count['nft']} rules in nft, {count['legacy']} in legacy, and firewalld's table; {lost}"


FAULTS = (
    ClusterFault(
        "foreign-rules",
        "rules of docker, Calico, Cilium, flannel, kube-router, firewalld and an administrator (no fault in itself)",
        _foreign,
    ),
)
