"""What a node is: its operating system, kernel, name and clock."""

from __future__ import annotations

import shlex
from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact

_LONGEST = 1000


class SystemState(TypedDict):
    """A node's identity.

    `uptime_s` is the kernel's, in seconds: that of the machine below, in a container. `clock` is the node's time in
    seconds since 1970. `container` is systemd-detect-virt's word ("systemd-nspawn", "docker" ...), "" for none.
    `euid` is who reads the node: everything is visible to 0 only. Text is "" where the node does not say.
    """

    os: str
    version: str
    pretty_name: str
    kernel: str
    machine: str
    hostname: str
    uptime_s: float
    clock: float
    container: str
    euid: int


class System(NodeFact[SystemState | None]):
    """The node's operating system and kernel. Source: os-release(5), uname(1), /proc/uptime, systemd-detect-virt(1).

    .. code:: python

        {
            "state": "value",
            "value": {
                "os": "debian", "version": "12", "pretty_name": "Debian GNU/Linux 12 (bookworm)",
                "kernel": "6.1.0-28-amd64", "machine": "x86_64", "hostname": "node-0", "uptime_s": 86400.12,
                "clock": 1795219200.0, "container": "", "euid": 0,
            },
            "detail": "",
        }
    """

    # systemd in a container leaves its manager's name in /run/systemd/container; other containers leave these files.
    script = r"""
for release in /etc/os-release /usr/lib/os-release; do
    [ -r "$release" ] || continue
    sed -n -e 's/^\(ID\|VERSION_ID\|PRETTY_NAME\)=/os &/p' -e 50q "$release"
    break
done
# Whatever the order of its options, uname has an order of its own.
set -- $(uname -nrm)
printf '%s\n' "kernel $2" "machine $3" "hostname $1"
read -r uptime rest </proc/uptime && echo "uptime $uptime"
echo "clock $(date +%s)"
echo "euid ${euid:-$(id -u)}"
if [ -s /run/systemd/container ]; then
    read -r container </run/systemd/container
    printf '%s\n' "container $container"
elif container=$(systemd-detect-virt -c 2>/dev/null); then
    echo "container $container"
elif [ -e /run/.containerenv ]; then
    echo "container podman"
elif [ -e /.dockerenv ]; then
    echo "container docker"
fi
"""

    @staticmethod
    @override
    def nothing() -> SystemState | None:
        return None

    @override
    def read(self, output: list[str]) -> SystemState | None:
        said: dict[str, str] = {}
        release: dict[str, str] = {}
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "os":
                key, _, value = rest.partition("=")
                # shlex takes time with the square of the length; os-release(5) has short values.
                release[key] = " ".join(shlex.split(value[:_LONGEST]))
            else:
                said[word] = rest
        return {
            "os": release.get("ID", ""),
            "version": release.get("VERSION_ID", ""),
            "pretty_name": release.get("PRETTY_NAME", ""),
            "kernel": said["kernel"],
            "machine": said["machine"],
            "hostname": said["hostname"],
            "uptime_s": float(said["uptime"]),
            "clock": float(said["clock"]),
            "container": said.get("container", ""),
            "euid": int(said["euid"]),
        }
