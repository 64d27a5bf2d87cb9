"""Every dnsmasq on a node: what it was started with, what it reads, and which options that makes.

Sources: proc(5) for the command line, network namespace, root, unit (cgroup) and start time; then the files that the
command line and the files themselves name (dnsmasq(8): --conf-file, --conf-dir). Files are read for processes with the
node's own network and root only: a container's paths are not the node's, also where it has the node's network.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from typing_extensions import override

from facts.dnsmasq_answer import Answer, Owner, Process
from facts.dnsmasq_options import ConfigError, ConfigFile, NotAllKnown, Option, read_options
from facts.dnsmasq_unit import DEFAULTS, unit_command
from facts.reading import NodeFact

UNIT = "dnsmasq.service"


class ReadError(TypedDict):
    """Why the options are not known, or not all of them, with file and line.

    `certain`: dnsmasq itself would stop there, in its own words; otherwise it reads something that is not known here.
    A snapshot of an earlier version does not tell which.
    """

    message: str
    file: str
    line: int
    certain: NotRequired[bool]


class Instance(TypedDict):
    """One dnsmasq. `pid` is 0 where dnsmasq.service exists and no process runs: `argv` is then what it would be given.

    `on_host`: it has the node's own network and files. `started` is in seconds since 1970 (0 without a process).
    `options` and `files` are in the order in which dnsmasq reads them, from the files as they are on disk now; where
    `error` is set they are what is known, and empty if it is certain, or where it is not on the host.
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
# by the parser. Bounded: 500 paths of 256 KiB at most; of larger ones, together 32 MiB, only whether they are lists of
# names. Anybody can give a process this name, a control group with any name in a unit of their own, and arguments that
# name a file which only root may read: for people's processes no file is read (dnsmasq runs as a system's user or as
# nobody), and a unit's name has a unit's letters (systemd.unit(5)).
# A conf-dir of /etc names shadow(5) too: what not everybody may read stays on the node, unless it is dnsmasq's by name.
_SCRIPT = r"""
[ "${euid:-$(id -u)}" = 0 ] || { echo "only root sees another user's network namespace" >&2; exit 77; }
left=500 looked=0 seen="|" wanted= newline='
'
# Told at once is what a path is; files are read together at the end, because a process costs more than a file.
emit() {
    case "$seen" in *"|$1|"*) return ;; esac
    # No line can hold such a name: what its beginning stands for is then known not to be known.
    case "$1" in *"$newline"*) printf '%s\n' "large ${1%%"$newline"*}"; return ;; esac
    seen="$seen$1|" left=$((left - 1))
    [ $left -gt 0 ] || return
    if [ -d "$1" ]; then
        printf '%s\n' "dir $1"
        entries=0
        for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
            kind=other
            if [ -d "$entry" ]; then kind=dir; elif [ -f "$entry" ]; then kind=file
            elif [ -L "$entry" ]; then kind=dangling; elif [ ! -e "$entry" ]; then continue; fi
            [ $((entries += 1)) -le 500 ] || break
            entry=${entry##*/}
            printf '%s\n' "entry $kind ${entry%%"$newline"*}"
        done
        for entry in "$1"/*; do [ -d "$entry" ] || emit "$entry"; done
    elif [ ! -e "$1" ]; then printf '%s\n' "missing $1"
    elif [ "$1" != /dev/null ] && { [ ! -f "$1" ] || [ ! -r "$1" ]; }; then printf '%s\n' "unreadable $1"
    else wanted=$wanted$1$newline
    fi
}
# Whether a file holds nothing but names with the addresses, servers and sets for them: lists of what is blocked or
# asked elsewhere are megabytes, and say nothing of interfaces. The rest of a line is another one behind 1023 bytes.
only_names() {
    LC_ALL=C grep -qvE -e "^(($known)|$blank*#.*)?$blank*\$" "$1"
    [ $? = 1 ] && LC_ALL=C awk 'length($0) > 1000 { long = 1; exit } END { exit long }' "$1"
}
blank="[[:space:]]"
byte="(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
server="$byte[.]$byte[.]$byte[.]$byte"
names="/([-A-Za-z0-9._]+/)+"
known="(address|server|local)=$names(#|$server)?|address=$names::1?|(ipset|nftset)=$names[-A-Za-z0-9_,.#:]+"
known="$known|(server|local)=$names$server#[1-9][0-9]?[0-9]?[0-9]?"
contents() {
    IFS=$newline
    set -f
    told=$(stat -L -c '%s %a %u %g %Y %d:%i %n' -- $wanted)
    wanted= small=
    for line in $told; do
        about=${line#* }
        path=${about#* * * * * }
        case $path:${about%% *} in *dnsmasq*:* | *[4567]) ;; *) printf '%s\n' "unreadable $path" && continue ;; esac
        if [ "${line%% *}" -gt 262144 ]; then
            kind=large looked=$((looked + ${line%% *}))
            if [ $looked -le 33554432 ] && only_names "$path"; then kind=list; fi
            printf '%s\n' "$kind $path"
            continue
        fi
        printf '%s\n' "file $about"
        base64 -w 0 -- "$path"
        echo
        small=$small$path$newline
    done
    [ -z "$small" ] ||
        small=$(sed -n '/^[[:space:]]*conf-\(file\|dir\)[[:space:]]*=/{s/^[^=]*=[[:space:]]*//;s/"//g;p;}' -- $small)
    set +f
    unset IFS
    for named in $small; do emit "${named%%,*}"; done
}
home=$(readlink /proc/1/ns/net)
running=no
for comm in $(grep -lx dnsmasq /proc/[0-9]*/comm 2>/dev/null); do
    dir=${comm%/comm}
    netns=$home
    [ "$dir/ns/net" -ef /proc/1/ns/net ] || netns=$(readlink "$dir/ns/net") || continue
    { read -r stat <"$dir/stat"; } 2>/dev/null && set -- $stat && [ $# -gt 22 ] || continue
    unit=
    while [ -z "$unit" ] && IFS= read -r group; do
        # The last part of the path that has a service's name in it.
        while case $group in */*) ;; *) false ;; esac; do
            case ${group##*/} in *.service*) unit=${group##*/} unit=${unit%.service*}.service && break ;; esac
            group=${group%/*}
        done
    done <"$dir/cgroup"
    case $unit in *[!A-Za-z0-9:_.\\@-]*) unit= ;; esac
    printf '%s\n' "process $1 $4 ${22} $netns ${unit:--} $(base64 -w 0 "$dir/cmdline")"
    [ "$unit" != dnsmasq.service ] || running=yes
    [ "$netns" = "$home" ] || continue
    # Not the mount namespace: a unit's sandbox (ProtectSystem= and its kin) is one too, with the same root.
    [ "$dir/root/" -ef / ] || { echo "apart $1" && continue; }
    while read -r key user rest; do [ "$key" != Uid: ] || break; done <"$dir/status"
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
    state= starts=
    IFS=$newline
    set -f
    for line in $(systemctl show dnsmasq.service -p LoadState -p ExecStart 2>/dev/null); do
        case $line in
            LoadState=*) state=${line#*=} ;;
            ExecStart=*) starts=${starts:-${line#*=}} ;;
        esac
    done
    set +f
    unset IFS
    printf '%s\n' "unit $state $running $starts"
    if [ "$state$running" = loadedno ] && [ -r /etc/default/dnsmasq ]; then
        for named in $(sed 's/^[[:space:]]*#.*//' /etc/default/dnsmasq | tr -c 'A-Za-z0-9/._-' '\n' | grep '^/'); do
            emit "$named"
        done
    fi
fi
while [ -n "$wanted" ]; do contents; done
# A shell that asks for single bytes gets the first one only: it is all there is of 0 and 1.
read -r nonlocal </proc/sys/net/ipv4/ip_nonlocal_bind
echo "nonlocal $nonlocal"
version=$(dnsmasq --version 2>/dev/null)
version=${version%%"$newline"*}
case $version in *"version "*) version=${version##*version } ;; *) version= ;; esac
echo "version ${version%% *}"
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
    on_host = process["netns"] == answer.home and process["pid"] not in answer.apart
    instance = _instance(process["argv"], process["unit"], answer if on_host else None)
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
        instance["error"] = {"message": str(error), "file": "", "line": 0, "certain": False}
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
            options, files = read_options(argv, answer.files, answer.version)
    except ConfigError as stop:
        error = {"message": stop.message, "file": stop.file, "line": stop.line, "certain": True}
    except NotAllKnown as stop:
        options, files = stop.options, stop.read
        error = {"message": stop.message, "file": stop.file, "line": stop.line, "certain": False}
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
