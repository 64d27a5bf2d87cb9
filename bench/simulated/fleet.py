"""Which node of the simulated fleet is what, and how it is reached: for the server and for the inventory."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

_FIRST = IPv4Address("127.64.0.0")


@dataclass(frozen=True)
class Plan:
    """
    A fleet. Shares are spread evenly over it.

    + hosts: how many; port: where the server listens; key: its host key, which takes every client key
    + delay: seconds before each answer; slow, slow_seconds: a share of the nodes takes so many
    + closed, silent, blackholed: shares where the port is closed, where sshd takes the connection and says nothing, and
      where no packet comes back
    + startups: connections at a time that are let in before they are known; the others are cut off, as sshd's
      MaxStartups does. 0: all
    + incident: nodes, the first ones, whose dnsmasq drops what pods ask
    """

    hosts: int
    port: int
    key: Path
    delay: float = 0.2
    slow: float = 0.0
    slow_seconds: float = 30.0
    closed: float = 0.0
    silent: float = 0.0
    blackholed: float = 0.0
    startups: int = 0
    incident: int = 0

    def is_slow(self, number: int) -> bool:
        return self._kind(number) == "slow"

    def is_incident(self, number: int) -> bool:
        return number < self.incident

    def port_of(self, number: int) -> int:
        """The server has two more ports: one says nothing, one drops what arrives; and nobody has the next."""
        return self.port + {"silent": 1, "blackholed": 2, "closed": 3}.get(self._kind(number), 0)

    def unreachable(self) -> list[str]:
        """The names of those that nobody can reach."""
        return [f"node-{number}" for number in range(self.hosts) if self.port_of(number) != self.port]

    def _kind(self, number: int) -> str:
        place = number * 0.618033988749895 % 1.0
        for kind in ("slow", "closed", "silent", "blackholed"):
            share: float = getattr(self, kind)
            if number >= self.incident and place < share:
                return kind
            place -= share
        return ""


def address(number: int) -> str:
    """A loopback address for each node."""
    return str(_FIRST + number)


def number(address: str) -> int:
    """The node that an address is of."""
    return int(IPv4Address(address)) - int(_FIRST)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options for the fields of a `Plan`."""
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--port", type=int, default=2222)
    parser.add_argument("--key", type=Path, required=True)
    for name in ("delay", "slow", "slow-seconds", "closed", "silent", "blackholed"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Plan, name.replace("-", "_")))
    for name in ("startups", "incident"):
        parser.add_argument(f"--{name}", type=int, default=0)
