"""What a probe asks, and what became of each of its tries. Every type here is JSON as it stands."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Literal, TypedDict, get_args

import dns.exception
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

Protocol = Literal["udp", "tcp", "icmp"]

Outcome = Literal["answered", "timeout", "closed", "refused", "unreachable", "bad answer", "not sent"]


class Source(TypedDict):
    """Where a probe is sent from."""

    name: str
    """For people: `host`, or a pod's `namespace/name`."""
    netns: str
    """Path of the network namespace on the node, such as `/proc/4321/ns/net`; empty is the node's own."""
    address: str
    """An address that must be local there, or the probe is not sent: it guards against a process id that
    now belongs to something else. Empty is not looked at."""


class Probe(TypedDict):
    """One question, asked `tries` times. `probe()` fills in the defaults and validates."""

    source: Source
    destination: str
    """IPv4 or IPv6 address."""
    port: int
    protocol: Protocol
    name: str
    """Domain name; empty for ICMP."""
    rdtype: str
    """`A`, `AAAA`, ...; empty for ICMP."""
    rdclass: str
    """`IN`, or `CH` for what a server says about itself; empty for ICMP."""
    tries: int
    deadline_s: float
    """How long one try may take, TCP handshake included."""
    rcodes: list[str]
    """The RCODEs that count as answered, such as `["NOERROR"]`; empty: all of them."""


class Try(TypedDict):
    """What became of one try.

    + answered: an answer with the right id and question came (ICMP: an echo reply)
    + timeout: nothing came before the deadline
    + closed: the TCP connection was made, and ended or reset without an answer
    + refused: ECONNREFUSED (over UDP: an ICMP port unreachable came back)
    + unreachable: no route from here, or an ICMP unreachable came back
    + bad answer: something else than an answer to this question, or an RCODE outside `rcodes`
    + not sent: unknown, says nothing about the destination
    """

    outcome: Outcome
    rtt_ms: float | None
    """Measured on the node, from before the connect to the (whole) answer; None without an answer."""
    rcode: str | None
    answers: list[str]
    """The answer section's rdata as text, aliases included."""
    detail: str
    """The sentence behind anything but a plain answer."""


class Result(TypedDict):
    """A probe and its tries, in the order they were sent."""

    probe: Probe
    carrier: str
    """What carried it: `bash`, `python3`, `ping`, or `dig` (which asks by itself: its own ids, checks and
    clock, deadlines in whole seconds); empty where nothing could."""
    tries: list[Try]


HOST: Source = {"name": "host", "netns": "", "address": ""}


def pod(name: str, pid: int | None = None, *, netns: str = "", address: str = "") -> Source:
    """A pod as a source: `pid` is any of its processes, or `netns` the path of its network namespace."""
    if (pid is None) == (not netns):
        raise ValueError(f"pod {name}: give a process id or a network namespace, one of them")
    return {"name": name, "netns": netns or f"/proc/{pid}/ns/net", "address": address}


def probe(
    destination: str,
    name: str = "",
    rdtype: str = "A",
    *,
    rdclass: str = "IN",
    source: Source = HOST,
    protocol: Protocol = "udp",
    port: int = 53,
    tries: int = 20,
    deadline_s: float = 2.0,
    rcodes: Sequence[str] = (),
) -> Probe:
    """A probe with the usual values filled in. ValueError: what cannot be asked, in one sentence."""
    icmp = protocol == "icmp"
    made: Probe = {
        "source": source,
        "destination": destination,
        "port": 0 if icmp else port,
        "protocol": protocol,
        "name": "" if icmp else name,
        "rdtype": "" if icmp else rdtype,
        "rdclass": "" if icmp else rdclass,
        "tries": tries,
        "deadline_s": deadline_s,
        "rcodes": list(rcodes),
    }
    validate(made)
    return made


def shared(destination: str) -> bool:
    """Whether nodes that ask this address may be asking one server.

    A loopback address is the node's own, and a link-local one as well (NodeLocal DNSCache listens on 169.254.20.10).
    """
    address = ipaddress.ip_address(destination)
    return not (address.is_loopback or address.is_link_local)


def validate(probe: Probe) -> None:
    """Raise ValueError where the probe cannot be asked. Probes come from a file or a command line too."""
    where = f"probe of {probe['destination']!r}"
    try:
        if not probe["destination"]:
            raise ValueError("no address to ask")
        for address in filter(None, (probe["destination"], probe["source"]["address"])):
            if "%" in address:
                raise ValueError(f"{address!r} names an interface, which not every carrier can do")
            ipaddress.ip_address(address)
        if probe["protocol"] != "icmp":
            if not probe["name"]:
                raise ValueError("no name to ask for")
            dns.name.from_text(probe["name"])
            dns.rdatatype.from_text(probe["rdtype"])
            dns.rdataclass.from_text(probe["rdclass"])
            for rcode in probe["rcodes"]:
                dns.rcode.from_text(rcode)
    except (ValueError, dns.exception.DNSException) as error:
        raise ValueError(f"{where}: {str(error) or type(error).__name__}") from error
    if probe["protocol"] not in get_args(Protocol):
        raise ValueError(f"{where}: protocol {probe['protocol']!r} is none of udp, tcp, icmp")
    if probe["protocol"] != "icmp" and not 1 <= probe["port"] <= 65535:
        raise ValueError(f"{where}: port {probe['port']} is not between 1 and 65535")
    if not 1 <= probe["tries"] <= 1000:
        raise ValueError(f"{where}: {probe['tries']} tries is not between 1 and 1000")
    if not 0.05 <= probe["deadline_s"] <= 60:
        raise ValueError(f"{where}: a deadline of {probe['deadline_s']} s is not between 0.05 and 60")
