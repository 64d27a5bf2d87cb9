"""The state of the systemd units on a node that have to do with DNS."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class Unit(TypedDict):
    """One unit, in systemd's words (org.freedesktop.systemd1(5)).

    `active_since_us` and `started_us` (its main process) are microseconds on the node's monotonic clock, 0 for never;
    `active_since` is the first of them as text. `main_pid` is None when no main process runs. `fragment` and `drop_ins`
    are the paths of the files that define the unit.
    """

    unit: str
    load: str
    active: str
    sub: str
    result: str
    file_state: str
    main_pid: int | None
    restarts: int
    active_since: str
    active_since_us: int
    started_us: int
    fragment: str
    drop_ins: list[str]


#: Who serves or forwards DNS, who writes its configuration, who moves the address, who runs the pods, who filters.
NAMES = (
    "dnsmasq.service",
    "dnsmasq@*.service",
    "systemd-resolved.service",
    "unbound.service",
    "named.service",
    "coredns.service",
    "pdns-recursor.service",
    "nscd.service",
    "NetworkManager.service",
    "systemd-networkd.service",
    "networking.service",
    "resolvconf.service",
    "keepalived.service",
    "libvirtd.service",
    "virtnetworkd.service",
    "lxc-net.service",
    "lxd.service",
    "kubelet.service",
    "kube-proxy.service",
    "containerd.service",
    "crio.service",
    "docker.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "firewalld.service",
    "nftables.service",
    "ufw.service",
    "netfilter-persistent.service",
)
# systemctl(1) has instances last.
_NAMES = " ".join(f"'{name}'" for name in sorted(NAMES, key=lambda name: "*" in name))
#: Where units have their files: systemd.unit(5).
FOLDERS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
)
_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "MainPID",
    "NRestarts",
    "ActiveEnterTimestamp",
    "ActiveEnterTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "FragmentPath",
    "DropInPaths",
)


class Units(NodeFact[list[Unit]]):
    """Those of the units in `NAMES` that the node has, masked ones too. Source: `systemctl show`, systemctl(1).

    .. code:: python

        {
            "state": "value",
            "value": [
                {
                    "unit": "dnsmasq.service", "load": "loaded", "active": "active", "sub": "running",
                    "result": "success", "file_state": "enabled", "main_pid": 187, "restarts": 0,
                    "active_since": "Sat 2026-11-21 12:00:00 UTC", "active_since_us": 1234567, "started_us": 1230000,
                    "fragment": "/lib/systemd/system/dnsmasq.service", "drop_ins": [],
                },
            ],
            "detail": "",
        }
    """

    # systemd looks through its folders for each unit that it is asked of, and tells all about it: it is asked of those
    # only that it has loaded or that have a file. Before a failed unit's name there may be a mark.
    script = rf"""
[ -d /run/systemd/system ] || {{ echo "systemd does not run here" >&2; exit 127; }}
set -f
listed=$(systemctl list-units --all --full --plain --no-legend --no-pager {_NAMES}) || exit $?
loaded= folders=
IFS='
'
for line in $listed; do
    unset IFS
    set -- $line
    case $1 in *.service) ;; *) shift ;; esac
    loaded="$loaded $1"
done
unset IFS
for folder in {" ".join(FOLDERS)}; do
    [ ! -d "$folder" ] || folders="$folders $folder"
done
set --
for unit in {_NAMES}; do
    known=
    for name in $loaded; do
        case $name in $unit) known="$known $name" ;; esac
    done
    [ -n "$known" ] || for folder in $folders; do
        [ -e "$folder/$unit" ] || [ -L "$folder/$unit" ] || continue
        known=$unit
        break
    done
    set -- "$@" $known
done
[ $# -gt 0 ] || exit 0
systemctl show --no-pager -p {",".join(_PROPERTIES)} "$@"
"""

    @override
    def read(self, output: list[str]) -> list[Unit]:
        found: dict[str, Unit] = {}
        for block in "\n".join(output).split("\n\n"):
            said = dict(line.split("=", 1) for line in block.splitlines() if line)
            if said and said["LoadState"] != "not-found":
                # An alias (bind9 of named) shows the same unit again.
                found[said["Id"]] = _unit(said)
        return list(found.values())


def _unit(said: dict[str, str]) -> Unit:
    # What a unit type or an older systemd does not have is not printed at all.
    return {
        "unit": said["Id"],
        "load": said["LoadState"],
        "active": said["ActiveState"],
        "sub": said["SubState"],
        "result": said.get("Result", ""),
        "file_state": said.get("UnitFileState", ""),
        "main_pid": int(said.get("MainPID", "0")) or None,
        "restarts": int(said.get("NRestarts", "0")),
        "active_since": said.get("ActiveEnterTimestamp", ""),
        "active_since_us": int(said.get("ActiveEnterTimestampMonotonic", "0")),
        "started_us": int(said.get("ExecMainStartTimestampMonotonic", "0")),
        "fragment": said.get("FragmentPath", ""),
        "drop_ins": said.get("DropInPaths", "").split(),
    }
