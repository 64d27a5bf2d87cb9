"""Packets of several interfaces, joined to the questions that they belong to."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address

import dns.flags
import dns.message
import pytest

from checks.captured import Journey, journeys
from probes import wire
from probes.capture import Answered, Capture
from probes.capture_filter import Point, Role
from probes.probe import HOST, Outcome, Probe, Protocol, Result, pod, probe

POD, VIP, NODE, UPSTREAM, SERVICE, COREDNS = (
    "10.244.0.5",
    "172.25.4.1",
    "172.25.4.10",
    "192.18.0.2",
    "10.32.0.10",
    "10.244.1.7",
)
OWN = {NODE, VIP, POD}
NAME = "www.example.com"


def message(number: int, *, response: bool = False, name: str = NAME) -> bytes:
    query = dns.message.make_query(name, "A", id=number, use_edns=False)
    if response:
        query.flags |= dns.flags.QR
    return query.to_wire()


def packet(source: str, sport: int, destination: str, dport: int, body: bytes, number: int = 17) -> bytes:
    transport = struct.pack(">HHHH", sport, dport, 8 + len(body), 0) + body if number == 17 else body
    ends = ip_address(source).packed + ip_address(destination).packed
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(transport), 7, 0, 64, number, 0) + ends + transport


def segment(source: str, sport: int, destination: str, dport: int, flags: int, body: bytes = b"") -> bytes:
    framed = struct.pack(">H", len(body)) + body if body else b""
    head = struct.pack(">HHIIBBHHH", sport, dport, 1, 1, 0x50, flags, 1024, 0, 0)
    return packet(source, sport, destination, dport, head + framed, 6)


def pcap(*packets: bytes) -> bytes:
    file = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 400, 101)
    return file + b"".join(struct.pack("<IIII", 1795318000, 0, len(one), len(one)) + one for one in packets)


def capture(
    interface: str, role: Role, *packets: bytes, host: str = "", full: bool = False, problem: str = ""
) -> Capture:
    inside = role == "target" or (role == "source" and host != "")
    point: Point = {
        "interface": interface,
        "role": role,
        "netns": "/proc/1/ns/net" if inside else "",
        "inode": 1 if inside else 0,
        "host": host,
    }
    return {"point": point, "pcap": b"" if problem else pcap(*packets), "full": full, "problem": problem}


def result(asked: Probe, outcome: Outcome, carrier: str = "python3") -> Result:
    return {
        "probe": asked,
        "carrier": carrier,
        "tries": [
            {"outcome": outcome, "rtt_ms": None, "rcode": None, "answers": [], "detail": ""}
            for _ in range(asked["tries"])
        ],
    }


def from_pod(destination: str = VIP, protocol: Protocol = "udp", tries: int = 3) -> Probe:
    source = pod(f"pod {POD}", 1, address=POD)
    return probe(destination, NAME, source=source, protocol=protocol, tries=tries)


def journey(captures: Sequence[Capture], *results: Result, own: set[str] = OWN) -> Journey:
    answered: Answered = {"captures": list(captures), "results": list(results), "missing": ""}
    return journeys("node-0", answered, own, {0: "a.pcap"}, {0: "hop"})[0]


IDS = [wire.identifier(number) for number in range(3)]
ASKED = [packet(POD, 4000 + number, VIP, 53, message(each)) for number, each in enumerate(IDS)]
ANSWERED = [packet(VIP, 53, POD, 4000 + number, message(each, response=True)) for number, each in enumerate(IDS)]


def test_the_incident() -> None:
    found = journey(
        [
            capture("eth0", "source", *ASKED, host=POD),
            capture("cilium_host", "arrival", *ASKED, host=POD),
            capture("bond0", "uplink"),
        ],
        result(from_pod(), "timeout"),
    )
    assert found["sentence"] == (
        f"node-0: pod {POD} -> {VIP}:53 UDP {NAME} A: 3 sent, 3 arrived on cilium_host, never answered; "
        "nothing on bond0"
    )
    assert (found["hop"], found["files"], found["sent"], found["back"]) == ("hop", ["a.pcap"], 3, 0)
    assert found["evidence"][0] == (
        f"eth0 of {POD}: 03:26:40.000000 udp {POD}:4000 > {VIP}:53 query id {IDS[0]} {NAME}. A"
    )


def test_a_forwarder_asks_further_and_gets_no_answer() -> None:
    further = [packet(NODE, 5000 + number, UPSTREAM, 53, message(60000 + number)) for number in range(2)]
    found = journey(
        [
            capture("eth0", "source", *ASKED, host=POD),
            capture("cilium_host", "arrival", *ASKED, host=POD),
            capture("bond0", "uplink", *further),
        ],
        result(from_pod(), "timeout"),
    )
    assert found["sentence"].endswith(
        "3 sent, 3 arrived on cilium_host, never answered; 2 left on bond0, no answer came back"
    )


def test_a_healthy_way() -> None:
    further = packet(NODE, 5000, UPSTREAM, 53, message(60000))
    back = packet(UPSTREAM, 53, NODE, 5000, message(60000, response=True))
    found = journey(
        [
            capture("eth0", "source", *ASKED, *ANSWERED, host=POD),
            capture("cilium_host", "arrival", *ASKED, host=POD),
            capture("bond0", "uplink", further, back),
        ],
        result(from_pod(), "answered"),
    )
    assert found["sentence"].endswith(
        "3 sent, 3 arrived on cilium_host, all answered; 1 left on bond0, 1 answered there"
    )


def test_a_service_is_found_behind_nat() -> None:
    """kube-proxy rewrites the destination, and the source where it masquerades: the id and the name stay."""
    asked = [packet(POD, 4000 + number, SERVICE, 53, message(each)) for number, each in enumerate(IDS)]
    left = [packet(NODE, 61000 + number, COREDNS, 53, message(each)) for number, each in enumerate(IDS)]
    found = journey(
        [
            capture("eth0", "source", *asked, host=POD),
            capture("cilium_host", "arrival", *asked, host=POD),
            capture("bond0", "uplink", *left),
        ],
        result(from_pod(SERVICE), "timeout"),
    )
    assert found["left"] == {"bond0": 3}
    assert found["sentence"].endswith("never answered; 3 left on bond0, no answer came back")


def test_an_answer_that_does_not_come_back() -> None:
    found = journey(
        [
            capture("eth0", "source", *ASKED, host=POD),
            capture("eth0", "target", *ASKED, *ANSWERED, host=VIP),
        ],
        result(from_pod(), "timeout"),
    )
    assert found["arrived"] == {f"eth0 of {VIP}": 3}
    assert found["sentence"].endswith(
        f"3 sent, 3 arrived on eth0 of {VIP}, 3 answered, but no answer came back to the source"
    )


def test_what_does_not_arrive() -> None:
    found = journey(
        [capture("eth0", "source", *ASKED, host=POD), capture("cilium_host", "arrival", host=POD)],
        result(from_pod(), "timeout"),
    )
    assert found["sentence"].endswith("3 sent, none arrived on cilium_host, never answered")


def test_what_does_not_leave_the_pod() -> None:
    found = journey([capture("eth0", "source", host=POD)], result(from_pod(), "timeout"))
    assert found["sentence"].endswith("nothing left the source")


def test_the_traffic_of_others_does_not_count() -> None:
    others = [
        packet("10.244.0.6", 4000, VIP, 53, message(7)),
        packet("172.25.4.11", 4000, VIP, 53, message(8)),
        packet(POD, 4100, VIP, 53, message(IDS[0], name="other.example")),
        packet(VIP, 53, POD, 4100, message(9, response=True)),
    ]
    found = journey(
        [
            capture("eth0", "source", *ASKED, others[2], host=POD),
            capture("bond0", "uplink", *others),
        ],
        result(from_pod(), "timeout"),
    )
    assert (found["sent"], found["left"], found["answered"]) == (3, {"bond0": 0}, 0)


def test_two_questions_with_the_same_name_are_kept_apart() -> None:
    direct = probe(UPSTREAM, NAME, source=HOST, tries=3)
    ids = [wire.identifier(number) for number in range(3, 6)]
    left = [packet(NODE, 5000 + number, UPSTREAM, 53, message(each)) for number, each in enumerate(ids)]
    answered: Answered = {
        "captures": [capture("eth0", "source", *ASKED, host=POD), capture("bond0", "uplink", *left)],
        "results": [result(from_pod(), "timeout"), result(direct, "timeout")],
        "missing": "",
    }
    first, second = journeys("node-0", answered, OWN, {}, {})
    assert first["left"] == {"bond0": 0}
    assert second["left"] == {"bond0": 3}
    assert second["sentence"].endswith("3 sent, never answered; 3 left on bond0, no answer came back")


def test_digs_own_ids_are_found_by_the_sources_address() -> None:
    own = [packet(POD, 4000 + number, VIP, 53, message(7000 + number)) for number in range(3)]
    found = journey(
        [capture("eth0", "source", *own, host=POD), capture("cilium_host", "arrival", *own, host=POD)],
        result(from_pod(), "timeout", "dig"),
    )
    assert (found["sent"], found["arrived"]) == (3, {"cilium_host": 3})


SYN, SYN_ACK, ACK, FIN, RST = 0x02, 0x12, 0x10, 0x11, 0x14


def test_connections_that_are_closed_without_an_answer() -> None:
    packets = [
        one
        for number, each in enumerate(IDS)
        for one in (
            segment(POD, 4000 + number, VIP, 53, SYN),
            segment(VIP, 53, POD, 4000 + number, SYN_ACK),
            segment(POD, 4000 + number, VIP, 53, ACK, message(each)),
            segment(VIP, 53, POD, 4000 + number, FIN),
        )
    ]
    found = journey([capture("eth0", "source", *packets, host=POD)], result(from_pod(protocol="tcp"), "closed"))
    assert (found["sent"], found["closed"]) == (3, 3)
    assert found["sentence"].endswith("3 sent, never answered, 3 closed by the other end without an answer")


def test_connections_that_are_never_made() -> None:
    opened = [segment(POD, 4000 + number, VIP, 53, SYN) for number in range(3)]
    found = journey(
        [capture("eth0", "source", *opened, host=POD), capture("cilium_host", "arrival", *opened, host=POD)],
        result(from_pod(protocol="tcp"), "timeout"),
    )
    assert found["sentence"].endswith("3 sent, 3 arrived on cilium_host, never answered")


def test_connections_that_are_answered() -> None:
    packets = [
        segment(POD, 4000, VIP, 53, SYN),
        segment(POD, 4000, VIP, 53, ACK, message(IDS[0])),
        segment(VIP, 53, POD, 4000, ACK, message(IDS[0], response=True)),
        segment(VIP, 53, POD, 4000, FIN),
    ]
    found = journey(
        [capture("eth0", "source", *packets, host=POD)], result(from_pod(protocol="tcp", tries=1), "answered")
    )
    assert (found["back"], found["closed"]) == (1, 0)


def test_an_icmp_error_is_told() -> None:
    about = ASKED[0][:28]
    error = packet(NODE, 0, POD, 0, b"\x03\x03" + bytes(6) + about, 1)
    found = journey([capture("eth0", "source", *ASKED, error, host=POD)], result(from_pod(), "refused"))
    assert found["errors"] == [f"{NODE} says that {VIP}:53 is unreachable"]
    assert found["errors"][0] in found["sentence"]


def test_a_capture_that_was_full_proves_no_absence() -> None:
    found = journey(
        [
            capture("eth0", "source", *ASKED, host=POD),
            capture("cilium_host", "arrival", host=POD, full=True),
            capture("bond0", "uplink", full=True),
        ],
        result(from_pod(), "timeout"),
    )
    assert "none arrived" not in found["sentence"] and "nothing on bond0" not in found["sentence"]
    assert "bond0: the capture was full, packets are missing" in found["sentence"]


@pytest.mark.parametrize("problem", ["bond0: No such device exists", ""])
def test_an_interface_that_could_not_be_captured(problem: str) -> None:
    bad = capture("bond0", "uplink", problem=problem)
    if not problem:
        bad["pcap"] = b"no pcap at all, but long enough to be one"
    found = journey([capture("eth0", "source", *ASKED, host=POD), bad], result(from_pod(), "timeout"))
    assert found["left"] == {}
    assert "nothing on bond0" not in found["sentence"]
    assert "bond0 could not be captured: " in found["sentence"]
