"""Addresses and networks from text, each parsed once: a fleet names the same ones by the hundred thousand."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=65536)
def ip_address(text: str) -> Address:
    """As `ipaddress.ip_address`. Raises ValueError."""
    return ipaddress.ip_address(text)


def address_text(text: str) -> str:
    """The text as it stands, if it is an address. Raises ValueError: what is computed with must be one."""
    ip_address(text)
    return text


@lru_cache(maxsize=65536)
def shortest(text: str) -> str:
    """An address as the kernel writes it, `fd25::1` for `FD25:0::1`; any other text as it stands.

    What people write is compared with what the kernel says.
    """
    try:
        return str(ip_address(text))
    except ValueError:
        return text


@lru_cache(maxsize=65536)
def ip_network(text: str) -> Network:
    """As `ipaddress.ip_network`, bits of the host allowed. Raises ValueError."""
    return ipaddress.ip_network(text, strict=False)


def usable(address: str) -> bool:
    """An address that can be asked: link-local ones with an interface (`fe80::1%eth0`) are not."""
    try:
        ip_address(address)
    except ValueError:
        return False
    return "%" not in address


def server(address: str, port: int) -> str:
    """A DNS server as people write it: `172.25.4.1`, and with its port where that is not 53."""
    return address if port == 53 else endpoint(address, port)


def endpoint(address: str, port: int) -> str:
    """Both as one word, as iptables, ss(8) and kubectl write them: `10.244.0.11:53`, `[fd00::11]:53`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def of_endpoint(text: str) -> tuple[str, int]:
    """Address and port of such a word; ("", 0) for any other one, for rules may hold anything."""
    address, _, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    good = usable(address) and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536
    return (address, int(port)) if good else ("", 0)
