"""Addresses under other names, with their prefixes kept: two addresses share as many leading bits as before.

So a route still covers what it covered, a pod is still in its node's pod CIDR, and a dnsmasq rule still matches. The
idea is that of Crypto-PAn (Xu, Fan, Ammar and Moon, 2002): each bit is turned, or not, by a keyed function of the bits
before it. HMAC-SHA256 is that function here.
"""

from __future__ import annotations

import hmac
from functools import cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: These mean the same on every node and name nobody: they stay.
_KEPT = (
    "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/3 ::/64 fe80::/10 ff00::/8"  # this host, loopback, link, multicast
).split()
#: What is inside stays inside: private stays private, global global.
_CLASSES = "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 fc00::/7 2000::/3".split()


class Prefixes:
    """One mapping of all addresses. Who has the key can turn it round."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._kept = [_prefix(ip_network(network)) for network in _KEPT]
        self._fixed = [_prefix(ip_network(network)) for network in _CLASSES]
        self._turned = cache(self._turn)

    def address(self, address: Address) -> Address:
        """The address under its other name. One to one."""
        bits = _bits(address)
        turned = "".join(str(int(bit) ^ self._turned(bits[:at])) for at, bit in enumerate(bits[1:], 1))
        number = int(turned, 2)
        return IPv4Address(number) if address.version == 4 else IPv6Address(number)

    def network(self, network: Network) -> Network:
        """The network under its other name: the bits behind the prefix stay zero."""
        return ip_network(f"{self.address(network.network_address)}/{network.prefixlen}", strict=False)

    def _turn(self, before: str) -> bool:
        """Whether the bit after these is turned: not on the way to a range that stays, nor within one that is kept."""
        if any(range_.startswith(before) for range_ in (*self._kept, *self._fixed)):
            return False
        if any(before.startswith(range_) for range_ in self._kept):
            return False
        return bool(hmac.digest(self._key, before.encode(), sha256)[0] & 1)


def _bits(address: Address) -> str:
    """The version, so that the families do not share a key, and the bits."""
    return f"{address.version:d}{int(address):0{address.max_prefixlen}b}"


def _prefix(network: Network) -> str:
    return _bits(network.network_address)[: 1 + network.prefixlen]


def read(text: str) -> Address | None:
    """None for what is no address."""
    try:
        return ip_address(text)
    except ValueError:
        return None
