"""Names and addresses under other names, the same ones everywhere in a recording, so that it still tells the same.

Addresses keep their prefixes (`reports.prefixes`), names their suffixes: what is below a domain stays below it. Nodes
become host-1, host-2 ... in the order of their names. The key is used once and thrown away.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from reports.prefixes import Prefixes, read
from reports.redaction import SHORT

#: Names that are the same everywhere, and what is asked below them is looked for by name.
_WELL_KNOWN = (
    "localhost",
    "version.bind",
    "cluster.local",
    "svc.cluster.local",
    "default.svc.cluster.local",
    "kube-system.svc.cluster.local",
    "kubernetes.default.svc.cluster.local",
    "kube-dns.kube-system.svc.cluster.local",
    "google.com",
    "in-addr.arpa",
    "ip6.arpa",
)
#: A word with dots is taken for a domain name only if it ends like one: files, units and sysctls do not.
_TOP = (
    "com net org edu gov mil int io cn de uk fr nl jp eu us ru ch at info biz dev app cloud local internal intranet"
    " lan corp home private test example invalid arpa onion"
).split()
#: Words of the field: a node of such a name is left as it is, or the record could not be read any more.
_FIELD = frozenset(
    "host pod node nft legacy udp tcp icmp kube value empty up down ok ipvs iptables nftables dnsmasq coredns ether"
    " veth bond bridge loopback manual auto running loaded active inactive unit master linux localhost default"
    " global".split()
)
#: Options of dnsmasq whose values name machines and people, and decide nothing here.
_RECORDS = re.compile(
    r"^(\s*(?:dhcp-(?:host|option|boot|match|mac|userclass|vendorclass|circuitid|remoteid|subscrid)|host-record|txt-record"
    r"|ptr-record|cname|srv-host|mx-host|naptr-record|dns-rr|caa-record|dynamic-host|auth-\w+)\s*=\s*).*$",
    re.MULTILINE,
)
_COMMENT = re.compile(r"^(\s*#).*$", re.MULTILINE)

_WORD = re.compile(r"(?<![\w.-])\w[\w.-]*")
_HEX = r"[0-9A-Fa-f]"
_ADDRESS = re.compile(
    rf"(?<![\w.:])(?P<v6>(?:{_HEX}{{0,4}}:){{2,7}}(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|{_HEX}{{0,4}}))(?P<l6>/\d{{1,3}})?(?![\w:]|\.\w)"
    rf"|(?<![\w.-])(?P<v4>\d{{1,3}}(?:\.\d{{1,3}}){{3}})(?P<l4>/\d{{1,2}})?(?![\w-]|\.\d|\.in-addr)"
    r"|(?<!\d)(?P<dashed>\d{1,3}(?:-\d{1,3}){3})(?!\d)"
)
_MAC = re.compile(rf"(?<!{_HEX})(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}(?!{_HEX})")
_REVERSE = re.compile(r"(?<![\w-])((?:\d{1,3}\.){1,4})in-addr\.arpa|(?<![\w-])((?:[0-9a-f]\.){1,32})ip6\.arpa", re.I)
_NAME = re.compile(r"(?<![\w.-])(?:[A-Za-z0-9_*](?:[\w-]{0,62})\.){1,10}[A-Za-z][\w-]{0,62}(?![\w-])")


class Pseudonyms:
    """One mapping for a whole recording.

    + key: secret, 16 bytes or more
    + nodes: the nodes' names; domains: domain names that are known from where they stand, whatever they end with
    """

    def __init__(self, key: bytes, nodes: Iterable[str], domains: Iterable[str] = ()) -> None:
        self._key = key
        self._prefixes = Prefixes(key)
        named = [node for node in sorted(set(nodes)) if node not in _FIELD and read(node) is None]
        width = len(str(len(named)))
        self.nodes = {node: f"host-{number:0{width}}" for number, node in enumerate(named, 1)}
        # Names of a kind that no word of a text can be are sought as they stand, the longest first.
        self._odd = sorted((node for node in self.nodes if not _WORD.fullmatch(node)), key=len, reverse=True)
        self._domains = {domain.strip(".").lower() for domain in domains if "." in domain.strip(".")}
        self._address_of = cache(self._one_address)
        self._label = cache(self._one_label)
        self._short = lru_cache(100_000)(self.text)

    def everything(self, value: Any) -> Any:
        """The same JSON under other names; keys too, where they are nodes, addresses or names and not just words."""
        if isinstance(value, str):
            return self._short(value) if len(value) < SHORT else self.text(value)
        if isinstance(value, list | tuple):
            return [self.everything(one) for one in value]
        if isinstance(value, dict):
            by_node = bool(value) and set(value) <= set(self.nodes)
            return {
                self.text(key) if by_node or re.search(r"[.:/ ]", key) else key: self._item(key, one, value)
                for key, one in value.items()
            }
        return value

    def _item(self, key: str, one: Any, value: dict[str, Any]) -> Any:
        """A file's comments may say anything, and so may the options that name machines."""
        if key == "content" and isinstance(one, str):
            return self.text(_RECORDS.sub(r"\1(left out)", _COMMENT.sub(r"\1", one)))
        if key == "value" and isinstance(one, str) and _RECORDS.match(f"{value.get('name')}="):
            return "(left out)"
        return self.everything(one)

    def text(self, text: str) -> str:
        """Free text, a log line or a command line."""
        text = _REVERSE.sub(self._reversed, text)
        for odd in self._odd:
            text = text.replace(odd, self.nodes[odd])
        text = _WORD.sub(lambda found: self._word(found[0]), text)
        text = _NAME.sub(lambda found: self._name(found[0]), text)
        text = _MAC.sub(lambda found: self._mac(found[0]), text)
        return _ADDRESS.sub(self._address, text)

    def _word(self, word: str) -> str:
        """node-0 and node-0.example are about node-0; node-01 is not."""
        end = len(word)
        while end > 0:
            if word[:end] in self.nodes:
                return self.nodes[word[:end]] + word[end:]
            end = word.rfind(".", 0, end)
        return word

    def _address(self, found: re.Match[str]) -> str:
        if found["dashed"]:
            address = read(found["dashed"].replace("-", "."))
            return str(self._address_of(address)).replace(".", "-") if address else found[0]
        plain, length = found["v4"] or found["v6"], found["l4"] or found["l6"] or ""
        address = read(plain)
        if address is None:
            return found[0]
        if length:
            try:
                return str(self._prefixes.network(ip_network(f"{plain}{length}")))
            except ValueError:  # an address with the length of its network
                pass
        return f"{self._address_of(address)}{length}"

    def _one_address(self, address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
        packed = address.packed
        if isinstance(address, IPv6Address) and packed[11:13] == b"\xff\xfe":
            # The interface's MAC is in the address (RFC 4291, appendix A): under the MAC's other name.
            hidden = self._mac_bytes(bytes([packed[8] ^ 2]) + packed[9:11] + packed[13:])
            network = self._prefixes.address(address).packed[:8]
            return ip_address(network + bytes([hidden[0] ^ 2]) + hidden[1:3] + b"\xff\xfe" + hidden[3:])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            return ip_address(packed[:12] + self._prefixes.address(address.ipv4_mapped).packed)
        return self._prefixes.address(address)

    def _reversed(self, found: re.Match[str]) -> str:
        """172.25.4.0/24 as 4.25.172.in-addr.arpa: a prefix, read from behind."""
        labels = (found[1] or found[2]).strip(".").split(".")[::-1]
        if found[1]:
            if any(int(label) > 255 for label in labels):
                return found[0]
            network = ip_network((bytes([*map(int, labels), *[0] * (4 - len(labels))]), 8 * len(labels)))
            shown = str(self._prefixes.network(network).network_address).split(".")[: len(labels)]
            return ".".join([*shown[::-1], "in-addr.arpa"])
        nibbles = "".join(labels).ljust(32, "0")
        wide = ip_network((int(nibbles, 16).to_bytes(16), 4 * len(labels)))
        hidden = self._prefixes.network(wide).network_address.packed.hex()[: len(labels)]
        return ".".join([*hidden[::-1], "ip6.arpa"])

    def _mac(self, mac: str) -> str:
        return self._mac_bytes(bytes.fromhex(mac.replace(":", ""))).hex(":")

    def _mac_bytes(self, mac: bytes) -> bytes:
        """None and everybody stay; the bits for multicast and locally administered too."""
        if mac in (bytes(6), b"\xff" * 6):
            return mac
        hidden = hmac.digest(self._key, b"mac" + mac, sha256)[:6]
        return bytes([hidden[0] & 0xFC | mac[0] & 3]) + hidden[1:]

    def _name(self, name: str) -> str:
        lowered = name.lower()
        if lowered.endswith((".in-addr.arpa", ".ip6.arpa")):
            return name
        known = any(lowered == domain or lowered.endswith(f".{domain}") for domain in self._domains)
        if not known and lowered.rpartition(".")[2] not in _TOP:
            return name
        labels = lowered.split(".")
        for kept in range(len(labels)):
            if ".".join(labels[kept:]) in _WELL_KNOWN or kept == len(labels) - 1:
                break
        hidden = [self._label(".".join(labels[at:])) for at in range(kept)]
        return ".".join([*hidden, *labels[kept:]])

    def _one_label(self, suffix: str) -> str:
        """A label depends on all that follows it: the same word below two domains becomes two words."""
        first = suffix.partition(".")[0]
        if first == "*" or first.startswith("_") or first in self.nodes.values() or _ADDRESS.fullmatch(first):
            return first
        return f"n{hmac.digest(self._key, b'name' + suffix.encode(), sha256).hex()[:7]}"
