"""One node of the simulated fleet: the recording of a real one under a name, addresses and process ids of its own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import IPv4Address
from pathlib import Path

import dns.message
import dns.rrset

from probes import wire
from probes.carry import grouped
from probes.probe import Probe

FOLDER = Path(__file__).resolve().parent
#: Nodes in one LAN, each with an address and a VIP of its own there.
IN_A_LAN = 100
MOST_NODES = 2000

_SECTION = re.compile(r"^section (\w+) ", re.MULTILINE)
#: What is a node's own: addresses, its name, the time, process ids.
_OWN = re.compile(
    r"(172\.25\.4\.\d+|172\.26\.[234]\.|198\.18\.53\.\d+|(?<=^\|hostname )node-0|(?<=^\|clock )\d+|(?<=^\|now )\d+"
    r"|(?<=pid=)\d+|(?<=MainPID=)[1-9]\d*|(?<=^\|process )\d+(?= \d+ \d+ net:)|(?<=^\|namespace \d{10} )\d+)",
    re.MULTILINE,
)
_RTT_US = 700


@dataclass(frozen=True)
class Node:
    """
    What a node answers.

    + number: from 0; all that is its own follows from it
    + incident: its dnsmasq has except-interface=cilium_*, and drops what pods ask
    """

    number: int
    incident: bool = False

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @cached_property
    def vip(self) -> str:
        """The address on which its dnsmasq serves."""
        return self._lan(150)

    def answer(self, script: str) -> str:
        """What the node would print: the sections that are asked for, or what became of the probes."""
        probes = asked(script)
        if probes is not None:
            return "\n".join(self._probed(probes))
        sections = self._sections
        return "\n".join(sections[name] for name in _SECTION.findall(script) if name in sections) + "\n"

    def _lan(self, last: int) -> str:
        return f"10.64.{self.number // IN_A_LAN}.{last + self.number % IN_A_LAN}"

    @property
    def _sections(self) -> dict[str, str]:
        """By name. Made anew each time: a fleet that is kept would cost the memory that is to be measured."""
        parts = _recorded(self.incident).copy()
        parts[1::2] = (self._own(token) for token in parts[1::2])
        found = re.split(r"^(?=@begin )", "".join(parts), flags=re.MULTILINE)
        return {part[7 : part.index("\n")]: part.rstrip("\n") for part in found if part.startswith("@begin ")}

    def _own(self, token: str) -> str:
        """What this node has where the recorded one has something of its own."""
        if token.startswith("172.25.4."):
            last = int(token.rpartition(".")[2])
            if last in (0, 254):
                return f"10.64.{self.number // IN_A_LAN}.{last}"
            return self.vip if last == 1 else Node(self.number + last - 10)._lan(10)
        if token.startswith("172.26."):
            beside = self.number + int(token.split(".")[2]) - 2
            return f"10.{128 + beside // 256}.{beside % 256}."
        if token.startswith("198.18.53."):
            return "198.18.0.0" if token.endswith(".0") else str(IPv4Address("198.18.0.10") + self.number)
        if token == "node-0":
            return self.name
        if len(token) == 10:
            return str(int(time.time()))
        return str(20_000 + int(token) + 7 * self.number)

    def _probed(self, probes: Sequence[Probe]) -> Iterator[str]:
        yield ""
        yield f"@dns probes {json.dumps(probes, separators=(',', ':'))}"
        sources = grouped(probes)
        for number, source in enumerate(sources):
            if any(probe["source"] == source and probe["protocol"] != "icmp" for probe in probes):
                yield f"@dns carrier {number} python3"
        first = 0
        for index, probe in enumerate(probes):
            if probe["protocol"] == "icmp":
                yield from _echoed(index, probe)
            elif self._dropped(probe):
                microseconds = round(probe["deadline_s"] * 1_000_000)
                state = "timeout" if probe["protocol"] == "udp" else "closed"
                yield from (f"@dns try {index} {nth} {microseconds} {state}" for nth in range(probe["tries"]))
            else:
                body = _body(probe["name"], probe["rdtype"], probe["rdclass"])
                for nth in range(probe["tries"]):
                    yield f"@dns try {index} {nth} {_RTT_US + 13 * nth} answer"
                    yield f"@dns data {index} {nth} {wire.identifier(first + nth):04x}{body}"
            first += probe["tries"]
        yield "@dns end\n"

    def _dropped(self, probe: Probe) -> bool:
        return self.incident and bool(probe["source"]["netns"]) and probe["destination"] == self.vip


def asked(script: str) -> list[Probe] | None:
    """The probes of a script of `probes.carry`; None for another script."""
    start = script.find("printf '\\n@dns probes %s\\n' ")
    if start < 0:
        return None
    word = script[start : script.index("\n", start)].split(" ", 4)[-1]
    quoted = word[1:-1] if word.startswith("'") else word
    probes: list[Probe] = json.loads(quoted.replace("'\"'\"'", "'"))
    return probes


@cache
def _recorded(incident: bool) -> list[str]:
    """The recording, cut at what is a node's own: every second part."""
    return _OWN.split((FOLDER / ("incident.txt" if incident else "healthy.txt")).read_text())


@cache
def _body(name: str, rdtype: str, rdclass: str) -> str:
    """An answer in hex, after its id."""
    query = dns.message.make_query(name, rdtype, rdclass, id=0, use_edns=False)
    response = dns.message.make_response(query, recursion_available=True)
    rdata = {"A": "198.18.0.80", "TXT": '"dnsmasq-2.90"', "SOA": "ns.invalid. host.invalid. 1 3600 600 86400 60"}
    response.answer.append(dns.rrset.from_text(query.question[0].name, 300, rdclass, rdtype, rdata[rdtype]))
    return response.to_wire()[2:].hex()


def _echoed(index: int, probe: Probe) -> Iterator[str]:
    destination, tries = probe["destination"], probe["tries"]
    yield f"@dns ping {index} PING {destination} ({destination}) 56(84) bytes of data."
    for number in range(1, tries + 1):
        yield f"@dns ping {index} 64 bytes from {destination}: icmp_seq={number} ttl=64 time=0.062 ms"
    yield f"@dns ping {index} {tries} packets transmitted, {tries} received, 0% packet loss, time 400ms"
