"""From a captured frame to the packet and the DNS message in it, through VLAN tags and the tunnels of pod networks.

What is no IP, no UDP, TCP or ICMP error, or is cut off too early, is no packet here: it is passed over, never an error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from models.pcap import Frame

#: UDP ports of VXLAN (IANA's and the kernel's own) and Geneve, which carry an Ethernet frame.
VXLAN_PORTS = (8472, 4789)
GENEVE_PORT = 6081
SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01

_IPV4, _IPV6, _VLAN = 0x0800, 0x86DD, (0x8100, 0x88A8)
_ICMP, _IPIP, _TCP, _UDP, _IPV6_IN_IP, _ICMPV6 = 1, 4, 6, 17, 41, 58
#: Headers of IPv6 that stand before the transport: hop-by-hop, routing, destination options.
_EXTENSIONS = (0, 43, 60)
_UNREACHABLE = {_ICMP: 3, _ICMPV6: 1}
#: A tunnel in a tunnel in a tunnel is no pod network.
_DEEPEST = 3


@dataclass(frozen=True)
class Packet:
    """One packet; for "icmp" an error about the packet with these addresses and ports, which `reporter` sent.

    `flags` are those of TCP, 0 otherwise; `payload` is what stands behind the transport's header.
    """

    time: float
    protocol: Literal["udp", "tcp", "icmp"]
    source: str
    sport: int
    destination: str
    dport: int
    payload: bytes
    flags: int = 0
    reporter: str = ""


@dataclass(frozen=True)
class Message:
    """The head of a DNS message: `name` in lower case and with its last dot, `rdtype` as text ("A")."""

    id: int
    response: bool
    name: str
    rdtype: str


def packet(frame: Frame) -> Packet | None:
    """The packet in a frame, None where there is none that matters. Never raises."""
    reader = _LINKS.get(frame.link)
    try:
        return reader(frame.time, frame.data, 0) if reader else None
    except (struct.error, IndexError, ValueError):
        return None


def message(packet: Packet) -> Message | None:
    """The DNS message that a packet begins with, None without one. Never raises.

    Over TCP only a message that begins with its segment is seen: a question always does, and the first answer.
    """
    wire = packet.payload[2:] if packet.protocol == "tcp" else packet.payload
    if len(wire) < 12:
        return None
    try:
        read = dns.message.from_wire(wire, question_only=True, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    if len(read.question) != 1:
        return None
    asked = read.question[0]
    return Message(
        read.id, bool(read.flags & dns.flags.QR), asked.name.to_text().lower(), dns.rdatatype.to_text(asked.rdtype)
    )


def _ethernet(time: float, data: bytes, depth: int) -> Packet | None:
    return _network(time, struct.unpack_from(">H", data, 12)[0], data, 14, depth)


def _cooked(time: float, data: bytes, depth: int) -> Packet | None:
    return _network(time, struct.unpack_from(">H", data, 14)[0], data, 16, depth)


def _cooked_2(time: float, data: bytes, depth: int) -> Packet | None:
    return _network(time, struct.unpack_from(">H", data, 0)[0], data, 20, depth)


def _raw(time: float, data: bytes, depth: int) -> Packet | None:
    return _ipv4(time, data, depth) if data[0] >> 4 == 4 else _ipv6(time, data, depth)


#: Link types that a node's interfaces have: Ethernet, raw IP (three numbers), "any" in both forms.
_LINKS: dict[int, Callable[[float, bytes, int], Packet | None]] = {
    1: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    113: _cooked,
    276: _cooked_2,
}


def _network(time: float, kind: int, data: bytes, at: int, depth: int) -> Packet | None:
    while kind in _VLAN:
        kind = struct.unpack_from(">H", data, at + 2)[0]
        at += 4
    if kind == _IPV4:
        return _ipv4(time, data[at:], depth)
    return _ipv6(time, data[at:], depth) if kind == _IPV6 else None


def _ipv4(time: float, data: bytes, depth: int) -> Packet | None:
    header = (data[0] & 15) * 4
    size, fragment = struct.unpack_from(">H", data, 2)[0], struct.unpack_from(">H", data, 6)[0] & 0x1FFF
    if header < 20 or fragment:
        return None
    # Ethernet fills short frames up. A size of 0 is a packet that the card will cut up (TSO).
    body = data[header : size or None]
    return _transport(time, data[9], _address(data[12:16]), _address(data[16:20]), body, depth)


def _ipv6(time: float, data: bytes, depth: int) -> Packet | None:
    following, at = data[6], 40
    while following in _EXTENSIONS:
        following, at = data[at], at + 8 * (data[at + 1] + 1)
    return _transport(time, following, _address(data[8:24]), _address(data[24:40]), data[at:], depth)


def _transport(time: float, number: int, source: str, destination: str, body: bytes, depth: int) -> Packet | None:
    if number in (_IPIP, _IPV6_IN_IP) and depth < _DEEPEST:
        return _raw(time, body, depth + 1)
    if number in _UNREACHABLE and body[0] == _UNREACHABLE[number]:
        # The packet that it is about, as far as the error quotes it, stands behind eight bytes.
        about = _raw(time, body[8:], depth + 1) if depth < _DEEPEST else None
        if about is None or about.protocol == "icmp":
            return None
        return Packet(time, "icmp", about.source, about.sport, about.destination, about.dport, b"", reporter=source)
    if number == _UDP:
        sport, dport = struct.unpack_from(">HH", body, 0)
        inner = _tunnelled(dport, body)
        if inner is not None and depth < _DEEPEST:
            return _ethernet(time, inner, depth + 1)
        return Packet(time, "udp", source, sport, destination, dport, body[8:])
    if number == _TCP:
        sport, dport = struct.unpack_from(">HH", body, 0)
        # An error quotes no more than the ports and the sequence number.
        if len(body) < 14:
            return Packet(time, "tcp", source, sport, destination, dport, b"")
        return Packet(time, "tcp", source, sport, destination, dport, body[(body[12] >> 4) * 4 :], flags=body[13])
    return None


def _tunnelled(dport: int, body: bytes) -> bytes | None:
    if dport in VXLAN_PORTS:
        return body[16:]
    # Geneve: the options' length in words, RFC 8926.
    return body[16 + 4 * (body[8] & 0x3F) :] if dport == GENEVE_PORT else None


def _address(packed: bytes) -> str:
    return str(ip_address(packed))
