"""Every dnsmasq on a node: what it was started with, what it reads, and which options that makes.

Sources: proc(5) for the command line, network namespace, unit (cgroup) and start time; then the files that the command
line and the files themselves name (dnsmasq(8): --conf-file, --conf-dir). Files are read for processes in the node's own
network namespace only: a container's paths are not the node's.
"""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.dnsmasq_answer import Answer, Owner, Process
from facts.dnsmasq_options import CannotTell, ConfigError, ConfigFile, NeedsFile, Option, read_options
from facts.dnsmasq_unit import DEFAULTS, unit_command
from facts.reading import NodeFact

UNIT = "dnsmasq.service"


class ReadError(TypedDict):
    """Why the options are not known: dnsmasq's own words where dnsmasq itself would stop, with file and line."""

    message: str
    file: str
    line: int


class Instance(TypedDict):
    """One dnsmasq. `pid` is 0 where dnsmasq.service exists and no process runs: `argv` is then what it would be given.

    `started` is in seconds since 1970 (0 without a process). `options` and `files` are in the order in which dnsmasq
    reads them, from the files as they are on disk now; they are empty where `error` is set.
    """

    pid: int
    unit: str
    netns: str
    on_host: bool
    started: float
    argv: list[str]
    options: list[Option]
    files: list[str]
    error: ReadError | None


class Dnsmasq(TypedDict):
    """`version` is "" without a dnsmasq in the PATH; `files` holds each configuration file's text as it is on disk.

    `nonlocal_bind` is net.ipv4.ip_nonlocal_bind: whether an address can be bound before the node has it.
    """

    version: str
    nonlocal_bind: bool
    instances: list[Instance]
    files: dict[str, ConfigFile]
    owners: dict[str, Owner]


# A node sends more than dnsmasq reads (every file of a conf-dir): which of them count, and in which order, is decided
# by the parser. Bounded: 500 paths of 256 KiB at most. Anybody can give a process this name, a control group with
# any name in a unit of their own, and arguments that name a file which only root may read: for people's processes no
# file is read (dnsmasq runs as a system's user or as nobody), and a unit's name has a unit's letters (systemd.unit(5)).
_SCRIPT = r"""
[ "$(id -u)" = 0 ] || { echo "only root sees another user's network namespace" >&2; exit 77; }
left=500 seen="|" newline='
'
emit() {
    case "$seen" in *"|$1|"*) return ;; esac
    # No line can hold such a name: what its beginning stands for is then known not to be known.
    case "$1" in *"$newline"*) echo "large ${1%%"$newline"*}"; return ;; esac
    seen="$seen$1|" left=$((left - 1))
    [ $left -gt 0 ] || return
    if [ -d "$1" ]; then
        echo "dir $1"
        ls -1A "$1" | head -n 500 | while IFS= read -r entry; do
            kind=other
            if [ -d "$1/$entry" ]; then kind=dir; elif [ -f "$1/$entry" ]; then kind=file
            elif [ -L "$1/$entry" ]; then kind=dangling; elif [ ! -e "$1/$entry" ]; then kind=file; fi
            echo "entry $kind $entry"
        done
        for entry in "$1"/*; do [ -d "$entry" ] || emit "$entry"; done
    elif [ ! -e "$1" ]; then echo "missing $1"
    elif [ "$1" != /dev/null ] && { [ ! -f "$1" ] || [ ! -r "$1" ]; }; then echo "unreadable $1"
    elif [ "$(stat -L -c %s "$1")" -gt 262144 ]; then echo "large $1"
    else
        echo "file $(stat -L -c '%a %u %g %Y %d:%i' "$1") $1"
        base64 "$1"
        for named in $(sed -n 's/^[[:space:]]*conf-\(file\|dir\)[[:space:]]*=[[:space:]]*//p' "$1" | tr -d '"'); do
            emit "${named%%,*}"
        done
    fi
}
home=$(readlink /proc/1/ns/net)
running=no
for comm in $(grep -lx dnsmasq /proc/[0-9]*/comm 2>/dev/null); do
    dir=${comm%/comm}
    netns=$(readlink "$dir/ns/net") && set -- $(cat "$dir/stat" 2>/dev/null) && [ $# -gt 22 ] || continue
    unit=$(sed -n 's|.*/\([^/]*\.service\).*|\1|p' "$dir/cgroup" | head -n 1)
    case $unit in *[!A-Za-z0-9:_.\\@-]*) unit= ;; esac
    echo "process $1 $4 ${22} $netns ${unit:--} $(base64 -w 0 "$dir/cmdline")"
    [ "$unit" != dnsmasq.service ] || running=yes
    [ "$netns" = "$home" ] || continue
    user=$(sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "$dir/status")
    [ "${user:-0}" -lt 1000 ] || [ "$user" = 65534 ] || continue
    IFS='
'
    set -f
    set -- $(tr '\0' '\n' < "$dir/cmdline")
    set +f
    unset IFS
    before=
    for arg in "$@"; do
        case "$before" in -C | -7 | --conf-f* | --conf-d*) emit "${arg%%,*}" ;; esac
        case "$arg" in
            -C?*) emit "${arg#-C}" ;;
            -7?*) arg=${arg#-7} && emit "${arg%%,*}" ;;
            --conf-f*=* | --conf-d*=*) arg=${arg#*=} && emit "${arg%%,*}" ;;
        esac
        before=$arg
    done
done
echo "host $home $(getconf CLK_TCK) $(sed -n 's/^btime //p' /proc/stat)"
emit /etc/dnsmasq.conf
for defaults in /etc/default/dnsmasq /etc/sysconfig/dnsmasq; do [ ! -e $defaults ] || emit $defaults; done
if command -v systemctl >/dev/null; then
    state=$(systemctl show dnsmasq.service -p LoadState --value 2>/dev/null)
    echo "unit $state $running $(systemctl show dnsmasq.service -p ExecStart --value 2>/dev/null | head -n 1)"
    if [ "$state$running" = loadedno ] && [ -r /etc/default/dnsmasq ]; then
        for named in $(sed 's/^[[:space:]]*#.*//' /etc/default/dnsmasq | tr -c 'A-Za-z0-9/._-' '\n' | grep '^/'); do
            emit "$named"
        done
    fi
fi
echo "nonlocal $(cat /proc/sys/net/ipv4/ip_nonlocal_bind /proc/sys/net/ipv6/ip_nonlocal_bind 2>/dev/null | tr '\n' ' ')"
echo "version $(dnsmasq --version 2>/dev/null | sed -n '1s/.*version \([^ ]*\).*/\1/p')"
"""


class DnsmasqInstances(NodeFact[Dnsmasq]):
    """Every dnsmasq process of the node, and dnsmasq.service where it is installed but does not run.

    .. code:: python

        {
            "version": "2.90",
            "nonlocal_bind": False,
            "instances": [
                {
                    "pid": 412, "unit": "dnsmasq.service", "netns": "net:[4026532200]", "on_host": True,
                    "started": 1790000000.5, "argv": ["/usr/sbin/dnsmasq", "-x", "/run/dnsmasq/dnsmasq.pid", ...],
                    "options": [{"name": "except-interface", "value": "cilium_*",
                                 "file": "/etc/dnsmasq.d/k8s.conf", "line": 14}, ...],
                    "files": ["/etc/dnsmasq.d/k8s.conf", "/etc/dnsmasq.conf"], "error": None,
                },
            ],
            "files": {"/etc/dnsmasq.d/k8s.conf": {"path": ..., "kind": "file", "content": "...", ...}, ...},
            "owners": {"/etc/dnsmasq.d/k8s.conf": {"mode": "644", "uid": 0, "gid": 0, "changed": 1790000000}},
        }
    """

    script = _SCRIPT
    # A busy node takes a while for each file.
    limit = 30

    @staticmethod
    @override
    def nothing() -> Dnsmasq:
        return {"version": "", "nonlocal_bind": False, "instances": [], "files": {}, "owners": {}}

    @override
    def read(self, output: list[str]) -> Dnsmasq:
        answer = Answer(output)
        pids = {process["pid"] for process in answer.processes}
        # dnsmasq forks for TCP and for scripts: a child of a dnsmasq is not an instance of its own.
        instances = [_running(process, answer) for process in answer.processes if process["parent"] not in pids]
        if answer.unit_loaded and not answer.unit_running:
            instances.append(_stopped(answer))
        if not instances and not answer.version:
            return self.nothing()
        return {
            "version": answer.version,
            "nonlocal_bind": answer.nonlocal_bind,
            "instances": instances,
            "files": answer.files,
            "owners": answer.owners,
        }


def _running(process: Process, answer: Answer) -> Instance:
    instance = _instance(process["argv"], process["unit"], answer if process["netns"] == answer.home else None)
    instance["pid"] = process["pid"]
    instance["netns"] = process["netns"]
    instance["started"] = answer.booted + process["ticks"] / answer.ticks_a_second
    return instance


def _stopped(answer: Answer) -> Instance:
    defaults = answer.files.get(DEFAULTS)
    try:
        argv = unit_command(answer.exec_start, defaults["content"] if defaults else "")
    except ValueError as error:
        instance = _instance([], UNIT, None)
        instance["error"] = {"message": str(error), "file": "", "line": 0}
    else:
        instance = _instance(argv, UNIT, answer)
    instance["netns"] = answer.home
    instance["on_host"] = True
    return instance


def _instance(argv: list[str], unit: str, answer: Answer | None) -> Instance:
    options: list[Option] = []
    files: list[str] = []
    error: ReadError | None = None
    try:
        if answer is not None:
            options, files = read_options(argv, answer.files)
    except (ConfigError, CannotTell) as stop:
        error = {"message": stop.message, "file": stop.file, "line": stop.line}
    except NeedsFile as stop:
        error = {"message": f"not sent by the node: {stop}", "file": stop.paths[0], "line": 0}
    return {
        "pid": 0,
        "unit": unit,
        "netns": "",
        "on_host": answer is not None,
        "started": 0.0,
        "argv": argv,
        "options": options,
        "files": files,
        "error": error,
    }
