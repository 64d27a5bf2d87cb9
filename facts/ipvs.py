"""The node's IPVS table: services, real servers, their counters, and the connections that it still sends somewhere.

Looking must not load ip_vs, and `ipvsadm` would: it runs only where /proc/net/ip_vs is there already.
"""

from __future__ import annotations

from typing import Literal, TypedDict, get_args

from typing_extensions import override

from facts.ipvs_lines import (
    Connection,
    Counters,
    Service,
    read_connection,
    read_proc,
    read_save,
    read_stats,
    server_key,
    service_key,
)
from facts.reading import NodeFact

#: "not loaded": it could be. "unknown": not loaded, and whether the kernel has it is not on the node (a container).
Support = Literal["loaded", "not loaded", "no kernel support", "unknown"]
SUPPORT: tuple[Support, ...] = get_args(Support)


class IpvsTable(TypedDict):
    """`services` is empty where ip_vs is not loaded (see `support`), and where nobody added one.

    `tool` is whether ipvsadm is installed: without it the services are those of /proc, and have no `counters`.
    `device` is whether there is a kube-ipvs0, `addresses` are its own. `connections` are the entries for services on
    port 53, by their destination. `sysctls` are net.ipv4.vs.* by their last name. Of many services those on port 53
    come first; `total_services` and `total_addresses` say how many there are.
    """

    support: Support
    tool: bool
    services: list[Service]
    total_services: int
    device: bool
    addresses: list[str]
    total_addresses: int
    connections: list[Connection]
    sysctls: dict[str, str]


#: Lines of services and real servers, besides those of port 53; a service is never cut in two.
MOST = 3000
MOST_ADDRESSES = 2000
MOST_CONNECTIONS = 500


class Ipvs(NodeFact[IpvsTable | None]):
    """IPVS as it is now. Needs root.

    Sources: ipvsadm(8) `-Sn` and `-ln --stats --exact`; /proc/net/ip_vs and /proc/net/ip_vs_conn
    (net/netfilter/ipvs/ip_vs_ctl.c and ip_vs_conn.c); /proc/sys/net/ipv4/vs.

    .. code:: python

        {
            "support": "loaded", "tool": True, "total_services": 8,
            "services": [
                {
                    "protocol": "udp", "address": "10.32.0.10", "port": 53, "fwmark": 0, "scheduler": "rr",
                    "options": [], "counters": {"connections": 83, "in_packets": 83, ...},
                    "servers": [{"address": "10.244.0.11", "port": 53, "forward": "masq", "weight": 1,
                                 "active": 0, "inactive": 12, "counters": {...}}, ...],
                },
            ],
            "device": True, "addresses": ["10.32.0.10", "10.32.0.1"], "total_addresses": 2,
            "connections": [{"protocol": "udp", "virtual": "10.32.0.10", "virtual_port": 53,
                             "destination": "10.244.0.12", "port": 53, "state": "UDP", "entries": 3, "longest": 240}],
            "sysctls": {"conntrack": "1", "expire_nodest_conn": "1", ...},
        }
    """

    limit = 20

    # A group is a service with its real servers. In /proc numbers are hexadecimal: 0035 is port 53.
    script = rf"""
[ "${{euid:-$(id -u)}}" = 0 ] || {{ echo "only root sees the IPVS table" >&2; exit 77; }}
groups() {{
    awk -v what="$1" '
        !/^(-A|-a|TCP|UDP|SCTP|FWM|  ->)/ || /RemoteAddress/ {{ next }}
        !/^(-a|  ->)/ {{
            services++
            dns = ($1 == "-A" ? $3 : $2) ~ /:(53|0035)$/
            cut = others + 0 >= {MOST}
        }}
        dns {{ print what, $0; next }}
        {{ others++ }}
        !cut {{ kept[++last] = $0 }}
        END {{
            for (i = 1; i <= last; i++) print what, kept[i]
            print "total", what, services + 0
            if (others > last) print "truncated: " last " of " others " lines" > "/dev/stderr"
        }}'
}}
tool=no
command -v ipvsadm >/dev/null && tool=yes && echo tool
if [ ! -e /proc/net/ip_vs ]; then
    read -r release </proc/sys/kernel/osrelease
    if [ -r "/lib/modules/$release/modules.dep" ]; then
        if grep -q '/ip_vs\.ko' "/lib/modules/$release/modules.dep"; then echo "support not loaded"
        else echo "support no kernel support"
        fi
    elif [ ! -e /proc/modules ]; then echo "support no kernel support"
    else echo "support unknown"
    fi
else
    echo "support loaded"
    table=$(cat /proc/net/ip_vs) || exit $?
    printf '%s\n' "$table" | groups proc
    if [ "$tool" = yes ]; then
        saved=$(ipvsadm -Sn) || exit $?
        printf '%s\n' "$saved" | groups save
        counted=$(ipvsadm -ln --stats --exact) || exit $?
        printf '%s\n' "$counted" | groups stats
    fi
    awk '
        NR > 1 && $5 == "0035" {{
            entry = $1 " " $4 " " $5 " " $6 " " $7 " " $8
            if (!(entry in entries)) order[++count] = entry
            entries[entry]++
            if ($9 + 0 > longest[entry]) longest[entry] = $9 + 0
        }}
        END {{
            for (i = 1; i <= count && i <= {MOST_CONNECTIONS}; i++)
                print "connections", order[i], entries[order[i]], longest[order[i]] + 0
            if (count > {MOST_CONNECTIONS})
                print "truncated: {MOST_CONNECTIONS} of " count " destinations" > "/dev/stderr"
        }}' /proc/net/ip_vs_conn
    cd /proc/sys/net/ipv4/vs 2>/dev/null && grep -s '' ./* | sed 's|^\./|sysctl |'
fi
[ -d /sys/class/net/kube-ipvs0 ] || exit 0
echo device
vips=$(printf '%s\n' "$saved" | awk '$1 == "-A" {{ print $3 }}' | sed -n 's/:53$//p' | tr -d '[]' | tr '\n' ' ')
own=$(ip -o addr show dev kube-ipvs0 scope global) || exit $?
printf '%s\n' "$own" | awk -v vips=" $vips" '
    NF {{
        total++
        sub(/\/.*/, "", $4)
        if (index(vips, " " $4 " ") || ++others <= {MOST_ADDRESSES}) print "address", $4
    }}
    END {{ print "total address", total + 0 }}'
"""

    @staticmethod
    @override
    def nothing() -> IpvsTable | None:
        return None

    @override
    def read(self, output: list[str]) -> IpvsTable | None:
        said: dict[str, list[str]] = {}
        for line in filter(None, output):
            word, _, rest = line.partition(" ")
            said.setdefault(word, []).append(rest)
        totals = dict(line.rsplit(" ", 1) for line in said.get("total", []))
        listed = read_proc(said.get("proc", []))
        services = read_save(said.get("save", [])) if "save" in totals else listed
        _complete(services, listed, read_stats(said.get("stats", [])))
        return {
            "support": _support(said["support"][0]),
            "tool": "tool" in said,
            "services": services,
            "total_services": int(totals.get("save", totals.get("proc", "0"))),
            "device": "device" in said,
            "addresses": said.get("address", []),
            "total_addresses": int(totals.get("address", "0")),
            "connections": [read_connection(line) for line in said.get("connections", [])],
            "sysctls": dict(line.split(":", 1) for line in said.get("sysctl", [])),
        }


def _complete(services: list[Service], listed: list[Service], counters: dict[str, dict[str, Counters]]) -> None:
    """Put the connections of /proc and the counters of `--stats` beside what `-Sn` says."""
    known = {service_key(service): service for service in listed}
    for service in services:
        counted = counters.get(service_key(service), {})
        service["counters"] = counted.get("")
        connections = {}
        if service_key(service) in known:
            connections = {server_key(server): server for server in known[service_key(service)]["servers"]}
        for server in service["servers"]:
            server["counters"] = counted.get(server_key(server))
            if server_key(server) in connections:
                server["active"] = connections[server_key(server)]["active"]
                server["inactive"] = connections[server_key(server)]["inactive"]


def stale_connections(table: IpvsTable) -> list[Connection]:
    """Entries that go to a destination that is not a real server of their service (any more)."""
    servers = {
        (service["protocol"], service["address"], service["port"], server["address"], server["port"])
        for service in table["services"]
        for server in service["servers"]
    }
    return [
        entry
        for entry in table["connections"]
        if (entry["protocol"], entry["virtual"], entry["virtual_port"], entry["destination"], entry["port"])
        not in servers
    ]


def _support(word: str) -> Support:
    if word not in SUPPORT:
        raise ValueError(f"unknown support {word!r}")
    return word
