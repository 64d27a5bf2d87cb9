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
def ip_network(text: str) -> Network:
    """As `ipaddress.ip_network`, bits of the host allowed. Raises ValueError."""
    return ipaddress.ip_network(text, strict=False)
