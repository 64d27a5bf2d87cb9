"""What a lab node looks like from outside, for comparing before and after; and what a repair would change on it."""

from __future__ import annotations

from pyinfra.api.host import Host

from facts import snapshot
from lab.places import Node
from models.node import vips
from operations import dnsmasq

# /run and /var/log hold what every login writes (utmp, session scopes, the journal); the rest of a node must not move.
# Addresses of a node that is just up are tentative for a second or two (RFC 4862), and get their routes afterwards.
_STATE = r"""
for turn in $(seq 20); do
    [ -n "$(ip -6 address show tentative)" ] || break
    sleep 0.25
done
find /etc /usr /opt /root /home /srv /boot /lib /sbin /bin /var -xdev \
    \( -path /var/log -o -path /var/lib/systemd -o -path /var/cache -o -path /var/tmp \) -prune -o \
    -printf '%p %y %m %U %G %s %T@ %l\n' | sort
find /etc /root /home /usr/share/dnsmasq -xdev -type f -exec sha256sum {} +
find /tmp /var/tmp /run -xdev -not -path '/run/systemd/*' -not -path '/run/user*' -not -path '/run/log/*' \
    -not -path '/run/sudo*' -not -path '/run/utmp' -not -path '/run/dbus*' -not -path /run/sshd.pid \
    -not -path /run/motd.dynamic -not -path /run/dnsmend.lock -type f | sort
systemctl show '*.service' -p Id,ActiveEnterTimestampMonotonic,MainPID | grep -v -e 'user@' -e 'user-runtime' | sort
systemctl list-timers --all --no-legend | grep -c .
ss -Htulpn | awk '{ $3 = $4 = ""; print }' | sort
for save in iptables-nft-save iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save; do
    $save 2>&1 | sed -e '/^#/d' -e 's/ \[[0-9:]*\]$//'
done
nft list ruleset
ip -o addr; ip rule; ip route show table all; ip -6 route show table all | sed 's/expires [0-9]*sec//'
cat /proc/modules /proc/net/ip_tables_names 2>/dev/null
# First, so that none of the programs that sort it out is in it.
processes=$(ps -eo comm=)
echo "$processes" | grep -v -e '^sshd' -e '^ps$' -e '^sh$' -e '^find' -e sudo -e sd-pam -e systemd | sort
"""


def state(node: Node) -> list[str]:
    """Every file, unit start, socket, rule, route, module and process of the node, as lines."""
    return node.run(["sh", "-c", _STATE], check=False).stdout.splitlines()


def served(node: Node) -> dict[str, bool]:
    """Who is answered at the node's VIP, asked by the lab itself with dig: pods, the LAN, the node."""
    client, coredns = node.pod("client"), node.pod("coredns")
    return {
        f"{place.name} {'tcp' if tcp else 'udp'}": place.ask(node.plan.vip, tcp=tcp).good
        for place in (client, coredns, node)
        for tcp in (False, True)
    }


def dnsmasq_start(node: Node) -> str:
    """Process and start time of dnsmasq.service."""
    return node.run(["systemctl", "show", "dnsmasq", "-p", "MainPID,ActiveEnterTimestampMonotonic"]).stdout


def planned_change(reached: Host, policy: str = "except-lo") -> dnsmasq.Change:
    """The change that deploys/fix_dns.py would make to node-0's dnsmasq, by what is read of it now."""
    snapshot.forget(reached)
    fleet = snapshot.fleet([reached])
    (change,) = dnsmasq.changes("node-0", fleet, policy=policy, served=vips(fleet, None)["node-0"])
    return change
