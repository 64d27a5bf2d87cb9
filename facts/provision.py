"""What a node brings along before Kubernetes is there: clock, tools, and the kernel modules that can be had."""

from __future__ import annotations

from typing import Literal, TypedDict, cast, get_args

from typing_extensions import override

from facts.reading import NodeFact

#: "on disk": modprobe would find it. "missing": not for this kernel. "unknown": this node has no list of modules.
Availability = Literal["loaded", "built in", "on disk", "missing", "unknown"]


class ProvisionState(TypedDict):
    """`clock` is in seconds since 1970. `keeper` is the daemon that keeps it, "" for none that is known.

    `synchronised` is what that daemon says, None where it does not tell, with its own words in `said`. `tools` are the
    paths of the commands that are there, `modules` how each one can be had.
    """

    clock: float
    keeper: str
    synchronised: bool | None
    said: str
    tools: dict[str, str]
    modules: dict[str, Availability]


TOOLS = ("iptables", "ip6tables", "conntrack", "ipset", "ipvsadm", "ip", "ss", "nsenter")
#: What kube-proxy wants for IPVS (kubernetes pkg/proxy/ipvs, its README), and what bridges need.
MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack", "br_netfilter")
#: Process names of 15 characters, as the kernel keeps them, of who disciplines a clock.
KEEPERS = ("chronyd", "systemd-timesyn", "ntpd", "phc2sys")


class Provision(NodeFact[ProvisionState | None]):
    """Clock, time daemon, tools and modules. Nothing is loaded, started or asked over D-Bus (which would start it).

    Sources: date(1), chronyc(1), ntpq(8), /run/systemd/timesync/synchronized (systemd-timesyncd.service(8)),
    /sys/module, /lib/modules/RELEASE/modules.{builtin,dep}.

    .. code:: python

        {"clock": 1795219200.123, "keeper": "chronyd", "synchronised": True, "said": "Normal",
         "tools": {"iptables": "/usr/sbin/iptables", ...}, "modules": {"ip_vs": "on disk", ...}}
    """

    # chronyc over its socket would write a socket of its own below /run: it is asked over UDP.
    script = rf"""
echo "clock $(date +%s.%N)"
for comm in /proc/[0-9]*/comm; do
    read -r name <"$comm" || continue
    case $name in {" | ".join(KEEPERS)}) keeper=$name; break ;; esac
done 2>/dev/null
echo "keeper $keeper"
case $keeper in
    chronyd) echo "said $(timeout 3 chronyc -h 127.0.0.1 -n -c tracking 2>/dev/null | cut -d , -f 14)" ;;
    ntpd) echo "said $(timeout 3 ntpq -c rv 127.0.0.1 2>/dev/null | grep -o 'leap_[a-z_0-9]*' | head -n 1)" ;;
    systemd-timesyn) [ -e /run/systemd/timesync/synchronized ] && echo "said synchronized" || echo "said never" ;;
esac
for tool in {" ".join(TOOLS)}; do
    path=$(command -v "$tool") && echo "tool $tool $path"
done
lib=/lib/modules/$(uname -r)
for module in {" ".join(MODULES)}; do
    if grep -qs "^$module " /proc/modules; then found=loaded
    elif grep -qs "/$module\.ko" "$lib/modules.builtin" || [ -d "/sys/module/$module" ]; then found="built in"
    elif grep -qs "/$module\.ko[.:a-z]" "$lib/modules.dep"; then found="on disk"
    elif [ -r "$lib/modules.dep" ]; then found=missing
    else found=unknown
    fi
    echo "module $module $found"
done
"""

    @staticmethod
    @override
    def nothing() -> ProvisionState | None:
        return None

    @override
    def read(self, output: list[str]) -> ProvisionState | None:
        said: dict[str, str] = {}
        tools: dict[str, str] = {}
        modules: dict[str, Availability] = {}
        for line in filter(None, output):
            word, _, rest = line.partition(" ")
            name, _, value = rest.partition(" ")
            if word == "tool":
                tools[name] = value
            elif word == "module":
                if value not in get_args(Availability):
                    raise ValueError(f"module {name}: {value!r}")
                modules[name] = cast(Availability, value)
            else:
                said[word] = rest.strip()
        return {
            "clock": float(said["clock"]),
            "keeper": said["keeper"],
            "synchronised": _synchronised(said["keeper"], said.get("said", "")),
            "said": said.get("said", ""),
            "tools": tools,
            "modules": modules,
        }


def _synchronised(keeper: str, said: str) -> bool | None:
    """In the daemons' words: chrony's leap status, ntpd's leap indicator, timesyncd's file."""
    if keeper == "chronyd" and said:
        return said in ("Normal", "Insert second", "Delete second")
    if keeper == "ntpd" and said:
        return said != "leap_alarm"
    if keeper == "systemd-timesyn":
        return said == "synchronized"
    return None
