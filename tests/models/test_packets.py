"""Frames that are built byte by byte, by the formats' documents: what is read from them, and what is passed over."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import dns.message
import pytest

from models.packets import Message, Packet, message, packet
from models.pcap import MOST_BYTES, Frame, frames

QUERY = dns.message.make_query("www.Example.com", "AAAA", id=0x4142, use_edns=False).to_wire()
ASKED = Message(0x4142, False, "www.example.com.", "AAAA")
A, B = "10.244.0.5", "10.32.0.10"


def udp(body: bytes = QUERY, sport: int = 40000, dport: int = 53) -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(body), 0) + body


def tcp(body: bytes = b"", flags: int = 0x18, options: bytes = b"") -> bytes:
    words = (20 + len(options)) // 4
    return struct.pack(">HHIIBBHHH", 40000, 53, 1, 1, words << 4, flags, 1024, 0, 0) + options + body


def ip4(body: bytes, protocol: int = 17, options: bytes = b"", source: str = A, fragment: int = 0) -> bytes:
    words = (20 + len(options)) // 4
    size = words * 4 + len(body)
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, size, 7, fragment, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(B).packed + options + body


def ip6(body: bytes, following: int = 17) -> bytes:
    ends = ip_address("fd00::5").packed + ip_address("fd00::10").packed
    return struct.pack(">IHBB", 0x60000000, len(body), following, 64) + ends + body


def ethernet(body: bytes, kind: int = 0x0800) -> bytes:
    return bytes(12) + struct.pack(">H", kind) + body


def read(data: bytes, link: int = 1) -> Packet | None:
    return packet(Frame(1.5, link, data))


def asked(data: bytes, link: int = 1) -> Message | None:
    one = read(data, link)
    return message(one) if one else None


PLAIN = ethernet(ip4(udp()))
WAYS = {
    "Ethernet": (PLAIN, 1),
    "filled up to 60 bytes": (PLAIN + bytes(20), 1),
    "VLAN": (ethernet(struct.pack(">HH", 100, 0x0800) + ip4(udp()), 0x8100), 1),
    "VLAN in VLAN": (ethernet(struct.pack(">HHHH", 7, 0x8100, 100, 0x0800) + ip4(udp()), 0x88A8), 1),
    "IPv4 with options": (ethernet(ip4(udp(), options=b"\x94\x04\x00\x00")), 1),
    "IPv6": (ethernet(ip6(udp()), 0x86DD), 1),
    "IPv6 with a hop-by-hop header": (ethernet(ip6(struct.pack(">BB6x", 17, 0) + udp(), 0), 0x86DD), 1),
    "raw IPv4": (ip4(udp()), 101),
    "raw IPv6": (ip6(udp()), 12),
    "any (SLL)": (bytes(14) + struct.pack(">H", 0x0800) + ip4(udp()), 113),
    "any (SLL2)": (struct.pack(">HHI", 0x0800, 0, 3) + bytes(12) + ip4(udp()), 276),
    "TCP": (ethernet(ip4(tcp(struct.pack(">H", len(QUERY)) + QUERY, options=b"\x01\x01\x08\x0a" + bytes(8)), 6)), 1),
    "VXLAN": (ethernet(ip4(udp(bytes(8) + PLAIN, dport=8472))), 1),
    "VXLAN over IPv6": (ethernet(ip6(udp(bytes(8) + PLAIN, dport=4789)), 0x86DD), 1),
    "Geneve with an option": (ethernet(ip4(udp(b"\x01" + bytes(7) + bytes(4) + PLAIN, dport=6081))), 1),
    "IPIP": (ethernet(ip4(ip4(udp()), 4)), 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_question_is_found(way: str) -> None:
    assert asked(*WAYS[way]) == ASKED


def test_addresses_and_ports_are_those_inside_the_tunnel() -> None:
    one = read(ethernet(ip4(udp(bytes(8) + PLAIN, dport=8472), source="172.25.4.10")))
    assert one is not None
    assert (one.time, one.source, one.sport, one.destination, one.dport) == (1.5, A, 40000, B, 53)


def test_flags_of_tcp() -> None:
    one = read(ethernet(ip4(tcp(flags=0x02), 6)))
    assert one is not None and (one.protocol, one.flags, one.payload) == ("tcp", 0x02, b"")
    assert message(one) is None


@pytest.mark.parametrize("family", [4, 6])
def test_an_error_is_about_the_packet_that_it_quotes(family: int) -> None:
    if family == 4:
        one = read(ethernet(ip4(b"\x03\x03" + bytes(6) + ip4(udp())[:28], 1, source="10.0.0.1")))
    else:
        one = read(ethernet(ip6(b"\x01\x04" + bytes(6) + ip6(udp())[:48], 58), 0x86DD))
    assert one is not None
    assert (one.protocol, one.sport, one.dport) == ("icmp", 40000, 53)
    assert one.reporter == ("10.0.0.1" if family == 4 else "fd00::5")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 13,
        ethernet(b""),
        ethernet(bytes(28), 0x0806),
        ethernet(ip4(udp(), fragment=100)),
        ethernet(ip4(udp())[:22]),
        ethernet(ip4(b"\x08\x00" + bytes(6), 1)),
        ethernet(b"\x41" + ip4(udp())[1:]),
        ethernet(ip4(b"\x03\x03" + bytes(6), 1)),
    ],
)
def test_what_is_no_packet_is_passed_over(data: bytes) -> None:
    assert read(data) is None


def test_every_frame_cut_off_anywhere_is_read_or_passed_over() -> None:
    for data, link in WAYS.values():
        for end in range(len(data)):
            asked(data[:end], link)


def test_an_unknown_link_type_is_passed_over() -> None:
    assert read(PLAIN, 147) is None


@pytest.mark.parametrize("body", [b"", QUERY[:11], b"\xff" * 40, QUERY[:4] + b"\x00\x02" + QUERY[6:]])
def test_what_is_no_question_is_passed_over(body: bytes) -> None:
    assert asked(ethernet(ip4(udp(body)))) is None


@pytest.mark.parametrize(("magic", "order"), [(0xA1B2C3D4, "<"), (0xA1B2C3D4, ">"), (0xA1B23C4D, "<")])
def test_captures_of_every_kind(magic: int, order: str) -> None:
    file = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 400, 1)
    part = 500_000 if magic == 0xA1B2C3D4 else 500_000_000
    record = struct.pack(f"{order}IIII", 1, part, len(PLAIN), len(PLAIN)) + PLAIN
    assert list(frames(file + record)) == [Frame(1.5, 1, PLAIN)]
    # Stopped in the middle of a record.
    assert list(frames(file + record + record[:-1])) == [Frame(1.5, 1, PLAIN)]
    assert list(frames(file)) == list(frames(b"")) == []


def test_a_file_that_is_no_capture() -> None:
    with pytest.raises(ValueError, match="no pcap file"):
        list(frames(b"tcpdump: no permission to capture"))
    huge = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 400, 1) + struct.pack("<IIII", 1, 1, MOST_BYTES + 1, 60)
    with pytest.raises(ValueError, match="claims"):
        list(frames(huge))
