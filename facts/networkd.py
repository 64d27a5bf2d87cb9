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
for file in /run/systemd/netif/links/*; do
    [ -f "$file" ] || continue
    awk -F= -v number="${{file##*/}}" '
        $1 == "ADMIN_STATE" {{ state = $2 }}
        $1 == "NETWORK_FILE" {{ file = $2 }}
        END {{ if (file != "" && state != "unmanaged" && state != "") print "link", number, state, file }}' "$file"
done | head -n {MOST}
for link in /sys/class/net/*; do
    [ -r "$link/ifindex" ] || continue
    echo "name $(cat "$link/ifindex") ${{link##*/}}"
done 2>/dev/null | head -n {MOST}
for file in /usr/lib/systemd/networkd.conf /etc/systemd/networkd.conf $(
    ls /usr/lib/systemd/networkd.conf.d/*.conf /run/systemd/networkd.conf.d/*.conf \
        /etc/systemd/networkd.conf.d/*.conf 2>/dev/null | awk -F/ '{{ print $NF, $0 }}' | sort | cut -d " " -f 2-); do
    [ ! -f "$file" ] || head -n 500 "$file" | sed -n 's/^ *\(ManageForeign[A-Za-z]*\) *= */foreign \1 /p'
done
for link in /sys/class/net/*; do
    grep -qs -e '^DEVTYPE=vxlan$' -e '^DEVTYPE=geneve$' "$link/uevent" || continue
    number=$(cat "$link/ifindex")
    file=$(sed -n 's/^E:ID_NET_LINK_FILE=//p' "/run/udev/data/n$number" 2>/dev/null | head -n 1)
    [ -z "$file" ] || [ ! -f "$file" ] ||
        echo "policy $number $file $(head -n 500 "$file" | sed -n 's/^ *MACAddressPolicy *= *//p' | tail -n 1)"
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
