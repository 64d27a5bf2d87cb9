"""What systemd-networkd and systemd-udevd do to links that are not theirs."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class ManagedLink(TypedDict):
    """A link that has a configuration of networkd: `state` in networkd's words ("configured" ...), `file` is it."""

    name: str
    state: str
    file: str


class LinkPolicy(TypedDict):
    """Where udev takes a tunnel's MAC address from: `file` is the .link file, `policy` its MACAddressPolicy."""

    name: str
    file: str
    policy: str


class NetworkdState(TypedDict):
    """`links` are those that networkd manages. `foreign` are its ManageForeign... settings where they are set.

    `policies` are those of tunnels (vxlan, geneve), for which udev has read a .link file.
    """

    links: list[ManagedLink]
    foreign: dict[str, str]
    policies: list[LinkPolicy]


MOST = 600


class Networkd(NodeFact[NetworkdState | None]):
    """The links that systemd-networkd manages, and the MAC policy of tunnels.

    "empty" means that networkd knows no link, and udev no policy: neither runs here.
    Sources: /run/systemd/netif/links, networkd.conf(5), systemd.link(5), /run/udev/data.

    .. code:: python

        {
            "links": [{"name": "bond0", "state": "configured", "file": "/etc/systemd/network/10-bond0.network"}],
            "foreign": {"ManageForeignRoutes": "no"},
            "policies": [{"name": "flannel.1", "file": "/usr/lib/systemd/network/99-default.link",
                          "policy": "persistent"}],
        }
    """

    # Later files win, and of two with the same name the one in /etc (systemd.syntax(7)): sorted by name, last is best.
    script = rf"""
set -- /run/systemd/netif/links/*
# A link may go meanwhile, with its file: grep(1) passes over it.
[ ! -f "$1" ] || grep -s -e '^ADMIN_STATE=' -e '^NETWORK_FILE=' /dev/null "$@" | awk -F= '
    function tell() {{
        if (file != "" && state != "unmanaged" && state != "" && ++told <= {MOST}) print "link", number, state, file
        state = file = ""
    }}
    {{
        at = index($1, ":")
        if (substr($1, 1, at - 1) != path) tell()
        path = number = substr($1, 1, at - 1)
        sub(/.*\//, "", number)
        if (substr($1, at + 1) == "ADMIN_STATE") state = $2; else file = $2
    }}
    END {{ tell() }}'
left={MOST}
for link in /sys/class/net/*; do
    [ -r "$link/ifindex" ] && read -r number <"$link/ifindex" || continue
    [ $((left -= 1)) -ge 0 ] || break
    printf '%s\n' "name $number ${{link##*/}}"
done 2>/dev/null
set --
for file in /usr/lib/systemd/networkd.conf.d/*.conf /run/systemd/networkd.conf.d/*.conf \
    /etc/systemd/networkd.conf.d/*.conf; do
    [ ! -f "$file" ] || set -- "$@" "${{file##*/}} $file"
done
IFS='
'
[ $# -lt 2 ] || set -- $(printf '%s\n' "$@" | sort)
unset IFS
for file in /usr/lib/systemd/networkd.conf /etc/systemd/networkd.conf "$@"; do
    file=${{file#* }}
    [ ! -f "$file" ] || sed -n -e 's/^ *\(ManageForeign[A-Za-z]*\) *= */foreign \1 /p' -e 500q "$file"
done
grep -ls -e '^DEVTYPE=vxlan$' -e '^DEVTYPE=geneve$' /dev/null /sys/class/net/*/uevent | while IFS= read -r link; do
    link=${{link%/uevent}}
    read -r number <"$link/ifindex" || continue
    file=$(sed -n 's/^E:ID_NET_LINK_FILE=//p' "/run/udev/data/n$number" 2>/dev/null | head -n 1)
    [ -z "$file" ] || [ ! -f "$file" ] ||
        printf '%s\n' "policy $number $file $(head -n 500 "$file" | sed -n 's/^ *MACAddressPolicy *= *//p' | tail -n 1)"
done
"""

    @staticmethod
    @override
    def nothing() -> NetworkdState | None:
        return None

    @override
    def read(self, output: list[str]) -> NetworkdState | None:
        lines = [line.split(maxsplit=3) for line in output if line.strip()]
        names = {words[1]: words[2] for words in lines if words[0] == "name"}
        state: NetworkdState = {"links": [], "foreign": {}, "policies": []}
        for word, *rest in lines:
            if word == "link":
                number, now, file = rest
                state["links"].append({"name": names.get(number, f"link {number}"), "state": now, "file": file})
            elif word == "foreign":
                state["foreign"][rest[0]] = rest[1] if len(rest) > 1 else ""
            elif word == "policy":
                name = names.get(rest[0], f"link {rest[0]}")
                state["policies"].append({"name": name, "file": rest[1], "policy": rest[2] if len(rest) > 2 else ""})
            elif word != "name":
                raise ValueError(f"unknown line {word!r}")
        return state if state["links"] or state["foreign"] or state["policies"] else None
