"""The network namespaces on a node that have processes in them: its pods, seen without any container runtime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from typing_extensions import override

from facts.interfaces import Interface, read_interfaces
from facts.iproute import SHOW
from facts.reading import NodeFact
from facts.resolver import read_resolv_conf


class Pod(TypedDict):
    """One network namespace other than the node's own.

    `netns` is its inode, which stays the same as long as it exists. `pid` is its oldest process: the one to enter it
    by. `processes` are the names of some that run in it. `addresses` are those that others can reach (no loopback, no
    link-local ones): [] for a service with PrivateNetwork=, say. `nameservers` are those of /etc/resolv.conf as that
    process sees it. `cgroup` is its deepest control group, "/" where it has none of its own.
    """

    netns: int
    pid: int
    processes: list[str]
    addresses: list[str]
    nameservers: list[str]
    cgroup: str
    interfaces: list[Interface]


MOST = 300
MOST_NAMES = 5
#: For one namespace: about 40 interfaces.
MOST_BYTES = 40_000


class Pods(NodeFact[list[Pod]]):
    """Every network namespace with a process in it, except that of the node's first process. Needs root.

    A namespace that only a file keeps alive (`ip netns add`) is not seen. Processes that end while they are looked at
    are passed over. Source: /proc/PID/{ns/net,stat,cgroup,root} (proc(5)), nsenter(1), `ip -j -d addr show`.

    .. code:: python

        {
            "state": "value",
            "value": [
                {
                    "netns": 4026532345, "pid": 411, "processes": ["pause", "coredns"], "addresses": ["172.26.2.53"],
                    "nameservers": ["172.25.4.1"], "cgroup": "/kubepods.slice/kubepods-pod7a.slice/cri-0f.scope",
                    "interfaces": [{"name": "eth0", "index": 9, "kind": "veth", "peer": 10, ...}],
                },
            ],
            "detail": "",
        }
    """

    limit = 20

    # One stat(1) reads every link, and awk reads /proc itself: nothing is started per process, little per namespace.
    # The namespace is compared after it was entered, because the process may have ended and its number be another's.
    # An absolute link below /proc/PID/root would lead into the node's own files: it is put below it again.
    script = rf"""{SHOW}
command -v nsenter >/dev/null && command -v ip >/dev/null || {{ echo "nsenter or ip not found" >&2; exit 127; }}
[ "${{euid:-$(id -u)}}" = 0 ] || {{ echo "only root sees the namespaces of others" >&2; exit 77; }}
own=$(readlink /proc/1/ns/net) || {{
    echo "process 1 is out of reach: the namespace that asks stands for the node's" >&2
    own=$(readlink /proc/self/ns/net) || exit 77
}}
cd /proc || exit 1
newline='
'
nameservers() {{
    file=/etc/resolv.conf
    for hop in 1 2 3 4 5; do
        [ -L "/proc/$1/root$file" ] && target=$(readlink "/proc/$1/root$file") || break
        case $target in
            /*) file=$target ;;
            *) file=${{file%/*}}/$target ;;
        esac
    done
    [ -f "/proc/$1/root$file" ] || return
    IFS=$newline
    set -f
    for line in $(head -c 20000 "/proc/$1/root$file"); do
        case $line in nameserver*) printf '%s\n' "resolv $line" ;; esac
    done
    set +f
    unset IFS
}}
namespaces=$(stat -c %N [0-9]*/ns/net 2>/dev/null | awk -v own="$own" '
    BEGIN {{ gsub(/[^0-9]/, "", own) }}
    {{
        pid = $1; net = $3
        gsub(/[^0-9]/, "", pid); gsub(/[^0-9]/, "", net)
        if (net == own || net == "") next
        text = ""; file = "/proc/" pid "/stat"
        while ((getline line < file) > 0) text = text line
        close(file)
        if (text == "") next
        name = text; sub(/^[^(]*\(/, "", name); sub(/\)[^)]*$/, "", name); gsub(/\t/, " ", name)
        sub(/^.*\) /, "", text); split(text, field, " "); started = field[20] + 0
        if (!(net in oldest)) order[++count] = net
        if (!(net in oldest) || started < since[net] || (started == since[net] && pid + 0 < oldest[net] + 0)) {{
            oldest[net] = pid; since[net] = started
        }}
        if (!((net, name) in seen) && named[net]++ < {MOST_NAMES}) {{
            seen[net, name] = 1; names[net] = names[net] "\t" name
        }}
    }}
    END {{
        for (i = 1; i <= count && i <= {MOST}; i++) print order[i] "\t" oldest[order[i]] names[order[i]]
        if (count > {MOST}) print "truncated: {MOST} of " count " network namespaces" > "/dev/stderr"
    }}' | while IFS="$(printf '\t')" read -r net pid names; do
    links=$(nsenter -t "$pid" -n ip -j -d addr show 2>&1)
    code=$?
    [ "$(readlink "/proc/$pid/ns/net")" = "net:[$net]" ] || continue
    [ "$code" = 0 ] || {{ printf '%s\n' "$links" >&2; exit "$code"; }}
    printf '%s\n' "namespace $net $pid" "processes $names"
    [ ! -r "/proc/$pid/cgroup" ] || while read -r line; do printf '%s\n' "cgroup $line"; done <"/proc/$pid/cgroup"
    nameservers "$pid"
    if [ "${{#links}}" -gt {MOST_BYTES} ]; then
        echo "truncated: {MOST_BYTES} of ${{#links}} bytes of the interfaces of process $pid" >&2
        links=$(printf '%s' "$links" | head -c {MOST_BYTES})
    fi
    printf '%s\n' "links $links"
done) || exit $?
[ "${{#namespaces}}" -ge 4000 ] || {{ printf '%s\n' "$namespaces"; exit 0; }}
printf '%s\n' "$namespaces" | condense
"""

    @override
    def read(self, output: list[str]) -> list[Pod]:
        pods: list[list[tuple[str, str]]] = []
        for line in filter(None, output):
            word, _, rest = line.partition(" ")
            if word == "namespace":
                pods.append([])
            pods[-1].append((word, rest))
        # By address, not as the processes are old: what is said of a node's first pod is the same in every run.
        return sorted((_pod(said) for said in pods), key=lambda pod: (pod["addresses"], pod["netns"]))


def host_interface(pod: Pod, interfaces: Iterable[Interface]) -> str:
    """The node's own end of the pod's veth pair (`lxc1234`), "" when it has none here. + interfaces: the node's."""
    ends = {(interface["peer"], interface["index"]) for interface in pod["interfaces"] if interface["kind"] == "veth"}
    found = [interface["name"] for interface in interfaces if (interface["index"], interface["peer"]) in ends]
    return found[0] if found else ""


def _pod(said: list[tuple[str, str]]) -> Pod:
    first = dict(said)
    netns, pid = first["namespace"].split()
    interfaces = read_interfaces(first["links"])
    # Control groups v1 has a line per controller, of which some stay at the root; the path may hold colons.
    paths = [rest.split(":", 2)[2] for word, rest in said if word == "cgroup"]
    return {
        "netns": int(netns),
        "pid": int(pid),
        "processes": first["processes"].split("\t"),
        "addresses": [
            address["address"]
            for interface in interfaces
            for address in interface["addresses"]
            if address["scope"] not in ("host", "link")
        ],
        "nameservers": read_resolv_conf("", "", (rest for word, rest in said if word == "resolv"))["nameservers"],
        "cgroup": max(paths, key=len, default="/"),
        "interfaces": interfaces,
    }
