"""A node's network interfaces and their addresses."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from typing_extensions import override

from facts.addresses import address_text
from facts.iproute import SHOW, objects
from facts.reading import NodeFact


class Address(TypedDict):
    """One address. `label` is what dnsmasq matches for IPv4 (`bond0:1`); it equals the interface's name for IPv6."""

    family: Literal[4, 6]
    address: str
    prefix: int
    label: str
    scope: str
    deprecated: bool
    tentative: bool


class Interface(TypedDict):
    """One interface, in the order of the kernel's list.

    `kind` is the driver's link kind (veth, bond, bridge, vxlan ...), else the hardware type (loopback, ether).
    `state` is "no carrier" when the interface is switched on but cannot send. `master` is the bond or bridge it
    belongs to, "" if none. `peer` is a veth's other end, by its index in the namespace where that end is.
    """

    name: str
    index: int
    kind: str
    state: Literal["up", "no carrier", "down"]
    mtu: int
    master: str
    peer: int | None
    addresses: list[Address]


#: About 4000 interfaces.
MOST_BYTES = 1_500_000


class Interfaces(NodeFact[list[Interface]]):
    """Every interface of the node's network namespace, with its addresses. Source: `ip -j -d addr show`, ip-address(8).

    .. code:: python

        {
            "state": "value",
            "value": [
                {
                    "name": "bond0", "index": 7, "kind": "bond", "state": "up", "mtu": 1500, "master": "", "peer": None,
                    "addresses": [
                        {"family": 4, "address": "172.25.4.1", "prefix": 24, "label": "bond0:1", "scope": "global",
                         "deprecated": False, "tentative": False},
                    ],
                },
            ],
            "detail": "",
        }
    """

    script = f"{SHOW}\nshow {MOST_BYTES} ip -j -d addr show"

    @override
    def read(self, output: list[str]) -> list[Interface]:
        return read_interfaces("\n".join(output))


def read_interfaces(text: str) -> list[Interface]:
    """The interfaces in the output of `ip -j -d addr show`. Raises ValueError or KeyError for anything else."""
    links = objects(text)
    indexes = {str(link["ifname"]): int(link["ifindex"]) for link in links}
    return [_interface(link, indexes) for link in links]


def _interface(link: dict[str, Any], indexes: dict[str, int]) -> Interface:
    kind = str(link.get("linkinfo", {}).get("info_kind") or link.get("link_type", ""))
    peer: int | None = None
    if kind == "veth":
        # The other end is given by name when it is in the same namespace, otherwise by its index over there.
        over_there = link.get("link_index")
        peer = indexes.get(str(link.get("link", "")), None if over_there is None else int(over_there))
    return {
        "name": str(link["ifname"]),
        "index": int(link["ifindex"]),
        "kind": kind,
        "state": _state(link["flags"]),
        "mtu": int(link["mtu"]),
        "master": str(link.get("master", "")),
        "peer": peer,
        "addresses": [_address(entry, str(link["ifname"])) for entry in link.get("addr_info", []) if entry],
    }


def _state(flags: list[str]) -> Literal["up", "no carrier", "down"]:
    if "UP" not in flags:
        return "down"
    return "up" if "LOWER_UP" in flags else "no carrier"


def _address(entry: dict[str, Any], interface: str) -> Address:
    return {
        "family": 6 if entry["family"] == "inet6" else 4,
        "address": address_text(str(entry["local"])),
        "prefix": int(entry["prefixlen"]),
        "label": str(entry.get("label", interface)),
        "scope": str(entry["scope"]),
        "deprecated": bool(entry.get("deprecated", False)),
        "tentative": bool(entry.get("tentative", False)),
    }
