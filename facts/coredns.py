"""The CoreDNS processes of a node's pods, and the Corefiles that they were started with."""

from __future__ import annotations

from base64 import b64decode
from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class CoreDns(TypedDict):
    """One CoreDNS. `netns` is its pod's network namespace (`facts.pods`).

    `corefile` holds the lines of its Corefile that open or close a block, and those of `forward` and `proxy`; it is ""
    where there is no such file.
    """

    netns: int
    pid: int
    path: str
    corefile: str


MOST = 20
MOST_BYTES = 65_536


class CoreDnsProcesses(NodeFact[list[CoreDns]]):
    """Every process called coredns, with its Corefile as that process sees it. Needs root.

    The file is the one of `-conf`, else "Corefile" in its working directory (coremain/run.go). What it imports is not
    read, and a change that CoreDNS has not reloaded yet is in the file already. Source: proc(5).

    .. code:: python

        {
            "state": "value",
            "value": [
                {"netns": 4026532345, "pid": 411, "path": "/etc/coredns/Corefile",
                 "corefile": ".:53 {\\n    forward . 172.25.4.1 {\\n    }\\n}\\n"},
            ],
            "detail": "",
        }
    """

    # Anybody can give a process this name, and arguments that name a file which only root may read: of people's
    # processes only those in a container are looked at, which has its own files.
    # An absolute link below /proc/PID/root would lead into the node's own files: it is put below it again. A folder on
    # the way may be one too: so nothing leaves the node but what a Corefile has to say of upstreams.
    script = rf"""
[ "${{euid:-$(id -u)}}" = 0 ] || {{ echo "only root sees the files of others" >&2; exit 77; }}
cd /proc || exit 1
found=$(grep -lx coredns [0-9]*/comm 2>/dev/null)
[ -n "$found" ] || exit 0
own=$(stat -L -c %d:%i /)
printf '%s\n' "$found" | head -n {MOST} | while read -r comm; do
    pid=${{comm%/comm}}
    netns=$(readlink "$pid/ns/net") || continue
    user=$(sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "$pid/status")
    [ "${{user:-0}}" -lt 1000 ] || [ "$(stat -L -c %d:%i "$pid/root/")" != "$own" ] || continue
    path=$(tr '\0' '\n' <"$pid/cmdline" | awk '
        wanted {{ print; exit }}
        /^--?conf=/ {{ sub(/^[^=]*=/, ""); print; exit }}
        /^--?conf$/ {{ wanted = 1 }}')
    case ${{path:=Corefile}} in
        /*) ;;
        *) path=$(readlink "$pid/cwd")/$path ;;
    esac
    case $path in *[!A-Za-z0-9._/:@+-]*) continue ;; esac
    file=$path
    for hop in 1 2 3 4 5; do
        target=$(readlink "$pid/root$file") || break
        case $target in
            /*) file=$target ;;
            *) file=${{file%/*}}/$target ;;
        esac
    done
    netns=${{netns#*[}}
    echo "process $pid ${{netns%]}} $path"
    [ ! -f "$pid/root$file" ] || head -c {MOST_BYTES} "$pid/root$file" |
        grep -aE '[{{}}]|^[[:space:]]*(forward|proxy)[[:space:]]' | base64 -w 0
    echo
done
"""

    @override
    def read(self, output: list[str]) -> list[CoreDns]:
        found: list[CoreDns] = []
        encoded: list[list[str]] = []
        for line in filter(None, output):
            if line.startswith("process "):
                pid, netns, path = line.split(" ", 3)[1:]
                found.append({"netns": int(netns), "pid": int(pid), "path": path, "corefile": ""})
                encoded.append([])
            else:
                encoded[-1].append(line)
        for one, lines in zip(found, encoded, strict=True):
            one["corefile"] = b64decode("".join(lines)).decode("utf-8", "replace")
        return found
