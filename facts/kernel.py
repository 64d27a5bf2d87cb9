"""How a node's kernel is set: the sysctls that DNS traffic meets, and which parts of netfilter it has."""

from __future__ import annotations

from typing import Literal, TypedDict

from typing_extensions import override

from facts.reading import NodeFact

#: "not built": this kernel cannot have it. "unknown": it is not loaded, and whether it was built in is not on the node,
#: in a container for instance.
Presence = Literal["loaded", "built in", "not loaded", "not built", "unknown"]


class KernelState(TypedDict):
    """`sysctls` by their dotted name, as far as the kernel has them (net.ipv4.vs.* only with ip_vs, for instance).

    An interface's dots stay as they are: its sysctls are below /proc/sys/net/ipv4/conf. `config` are options of the
    kernel's build, "y", "m" or "n". An option that is not in it is unknown to this kernel, which may be older than the
    option; it is empty where the kernel's configuration is not on the node.
    """

    sysctls: dict[str, str]
    modules: dict[str, Presence]
    config: dict[str, str]


#: Each module, and the build options that make it: the first one that the kernel knows decides. Since Linux 6.10 a
#: part of iptables stays without its legacy tables, which have an option of their own.
MODULES = {
    "ip_vs": ("CONFIG_IP_VS",),
    "ip_tables": ("CONFIG_IP_NF_IPTABLES_LEGACY", "CONFIG_IP_NF_IPTABLES"),
    "ip6_tables": ("CONFIG_IP6_NF_IPTABLES_LEGACY", "CONFIG_IP6_NF_IPTABLES"),
    "iptable_nat": ("CONFIG_IP_NF_NAT",),
    "nf_tables": ("CONFIG_NF_TABLES",),
    "nf_conntrack": ("CONFIG_NF_CONNTRACK",),
    "br_netfilter": ("CONFIG_BRIDGE_NETFILTER",),
    "dummy": ("CONFIG_DUMMY",),
}
OPTIONS = (
    "CONFIG_NETFILTER_XTABLES_LEGACY",
    "CONFIG_NF_CONNTRACK_PROCFS",
    *(option for options in MODULES.values() for option in options),
)
SYSCTLS = (
    "net/ipv4/vs/*",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_buckets",
    "net/netfilter/nf_conntrack_udp_timeout",
    "net/netfilter/nf_conntrack_udp_timeout_stream",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/*/rp_filter",
)
_WANTED = f"^({'|'.join(OPTIONS)})=|^# ({'|'.join(OPTIONS)}) is not set$"
#: A node has one rp_filter for each interface, and one interface for each pod.
MOST = 600


class Kernel(NodeFact[KernelState]):
    """Sysctls, modules and build options. Nothing is loaded: every name is looked up in /proc and /sys.

    Sources: /proc/sys, /proc/modules, /lib/modules/RELEASE/modules.builtin, /boot/config-RELEASE, /proc/config.gz.

    .. code:: python

        {
            "sysctls": {"net.ipv4.vs.conntrack": "1", "net.netfilter.nf_conntrack_max": "131072", ...},
            "modules": {"ip_vs": "loaded", "br_netfilter": "not loaded", "ip_tables": "built in", ...},
            "config": {"CONFIG_NETFILTER_XTABLES_LEGACY": "m", ...},
        }
    """

    # A part of the kernel that was built in may leave no trace but in modules.builtin and in the configuration.
    script = rf"""
cd /proc/sys || exit 1
read -r release <kernel/osrelease
set --
[ ! -r /proc/modules ] || set -- from=modules /proc/modules
if [ -r "/lib/modules/$release/modules.builtin" ]; then
    echo listed
    set -- "$@" from=builtin "/lib/modules/$release/modules.builtin"
fi
{{
    grep -s '' {" ".join(SYSCTLS)}
    for config in "/boot/config-$release" "/lib/modules/$release/config" /proc/config.gz; do
        [ -r "$config" ] || continue
        case $config in
            *.gz) gzip -dc "$config" | grep -E '{_WANTED}' ;;
            *) grep -E '{_WANTED}' "$config" ;;
        esac
        break
    done
}} | awk '
    from == "modules" {{ has[$1] = "loaded"; next }}
    from == "builtin" {{
        sub(/.*\//, "")
        sub(/\.ko.*/, "")
        if (!($0 in has)) has[$0] = "built in"
        next
    }}
    /^net\// {{
        if (++sysctls <= {MOST}) print "sysctl", $0
        next
    }}
    / is not set$/ {{ print "config", $2, "n"; next }}
    {{ sub(/=/, " "); print "config", $0 }}
    END {{
        if (sysctls > {MOST}) print "truncated: {MOST} of " sysctls " sysctls" > "/dev/stderr"
        count = split("{" ".join(MODULES)}", module)
        for (i = 1; i <= count; i++) if (module[i] in has) print "module", module[i], has[module[i]]
    }}' "$@" from=sysctls -
"""

    @staticmethod
    @override
    def nothing() -> KernelState:
        return {"sysctls": {}, "modules": {}, "config": {}}

    @override
    def read(self, output: list[str]) -> KernelState:
        state = self.nothing()
        listed = False
        for line in filter(None, output):
            word, _, rest = line.partition(" ")
            if word == "sysctl":
                path, _, value = rest.partition(":")
                state["sysctls"][path.replace("/", ".")] = value
            elif word == "module":
                name, _, presence = rest.partition(" ")
                state["modules"][name] = "built in" if presence == "built in" else "loaded"
            elif word == "config":
                name, _, value = rest.partition(" ")
                state["config"][name] = value
            elif word == "listed":
                listed = True
            else:
                raise ValueError(f"unknown line {line!r}")
        for module, options in MODULES.items():
            if module not in state["modules"]:
                built = next((state["config"][option] for option in options if option in state["config"]), "")
                presences: dict[str, Presence] = {"y": "built in", "m": "not loaded", "n": "not built"}
                state["modules"][module] = presences.get(built, "not loaded" if listed else "unknown")
        return state


class LegacyUse(TypedDict):
    """Whether the kernel can do legacy iptables for a family, with the tool's words where it cannot."""

    family: Literal[4, 6]
    usable: bool
    words: str


class LegacyPreflight(NodeFact[list[LegacyUse]]):
    """Whether iptables-legacy works on this node: tried in a network namespace that ends with the question.

    The node's own tables stay as they are, but where legacy is a module the kernel loads it: ask before a change to
    legacy only. `modprobe -n` and the saves do not tell: both succeed without legacy in the kernel.
    "tool missing" means that iptables-legacy is not installed. A kernel without IPv6 is not tried for it.

    .. code:: python

        [{"family": 4, "usable": False, "words": "iptables v1.8.9 (legacy): can't initialize iptables table ..."},
         {"family": 6, "usable": False, "words": "..."}]
    """

    # Exit code 3: the kernel has no such table (iptables(8)), or no such family: with ipv6.disable=1 there is no packet
    # that needs one. unshare(1) says "unshare: " when it may not.
    script = r"""
[ "$(id -u)" = 0 ] || { echo "only root makes network namespaces" >&2; exit 77; }
for tool in unshare iptables-legacy ip6tables-legacy; do
    command -v $tool >/dev/null || { echo "$tool not found" >&2; exit 127; }
done
for family in 4 6; do
    tool=iptables-legacy
    if [ $family = 6 ]; then
        [ -e /proc/net/if_inet6 ] || continue
        tool=ip6tables-legacy
    fi
    words=$(unshare -n $tool -w 5 -t nat -S 2>&1 >/dev/null)
    code=$?
    case $code in
        0 | 3) ;;
        *) printf '%s\n' "$words" >&2; exit $code ;;
    esac
    echo "family $family $code"
    printf '%s\n' "$words" | head -n 10 | sed 's/^/= /'
done
"""

    @override
    def read(self, output: list[str]) -> list[LegacyUse]:
        found: list[LegacyUse] = []
        for line in filter(None, output):
            if line.startswith("="):
                found[-1]["words"] = f"{found[-1]['words']}\n{line[2:]}".strip()
            else:
                _, family, code = line.split()
                found.append({"family": 6 if family == "6" else 4, "usable": code == "0", "words": ""})
        return found
