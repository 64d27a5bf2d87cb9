"""Where packets are captured, and which: pcap-filter(7) expressions."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Literal, TypedDict

import dns.name

from models.packets import GENEVE_PORT, VXLAN_PORTS
from probes.probe import Probe

#: Where the interface stands on a query's way: at its source, where it enters the node's own network, at the pod that
#: it is sent to, or where it leaves the node.
Role = Literal["source", "arrival", "target", "uplink"]


class Point(TypedDict):
    """One interface to capture at.

    + netns: "" for the node's own network namespace, else `/proc/PID/ns/net`; inode: its number, 0 for the node's own.
      A process id that has become another's would lead elsewhere
    + host: an address that every packet must have, "" for any: on an uplink it is not known after NAT
    """

    interface: str
    role: Role
    netns: str
    inode: int
    host: str


def expression(point: Point, probes: Sequence[Probe], ports: Sequence[int]) -> str:
    """What is captured, as a pcap-filter(7): DNS and the errors about it, narrow enough for a busy node's uplink.

    + ports: those on which DNS is spoken here
    """
    port = " or ".join(f"port {number}" for number in ports)
    errors = "icmp[0] == 3 or (ip6[6] == 58 and ip6[40] == 1)"
    if point["host"]:
        return f"host {ip_address(point['host'])} and (((udp or tcp) and ({port})) or {errors})"
    names = " or ".join(sorted({begins(probe["name"]) for probe in probes}))
    tunnels = " or ".join(f"port {number}" for number in (*VXLAN_PORTS, GENEVE_PORT))
    # Behind the outer UDP header: 8 bytes of the tunnel's, 14 of Ethernet's, 20 of IP's, then both ports.
    inside = " or ".join(f"udp[50:2] == {number} or udp[52:2] == {number}" for number in ports)
    ipip = " or ".join(f"ip[40:2] == {number} or ip[42:2] == {number}" for number in ports)
    return (
        f"(udp and ({port}) and ({names})) or (tcp and ({port})) or {errors} "
        f"or (udp and ({tunnels}) and ({inside})) or (ip proto 4 and ({ipip}))"
    )


def packed(address: str) -> str:
    """An address as it stands in a packet, in hex."""
    return ip_address(address).packed.hex() if address else ""


def begins(name: str) -> str:
    """True for UDP messages whose question begins like this name, in either case (0x20 encoding mixes it)."""
    wire = dns.name.from_text(name).to_wire() or b""
    if len(wire) < 4:
        return "udp"
    value, mask = int.from_bytes(wire[:4], "big") & 0xDFDFDFDF, "0xdfdfdfdf"
    # The name stands 20 bytes behind the start of UDP's header; udp[] reads IPv4 only.
    return f"udp[20:4] & {mask} == {value:#x} or (ip6[6] == 17 and ip6[60:4] & {mask} == {value:#x})"
