"""Other names, and still the same network: prefixes, suffixes, and one name for one thing."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from reports.prefixes import Prefixes
from reports.pseudonyms import Pseudonyms

KEY = b"0123456789abcdef"


@pytest.fixture
def named() -> Pseudonyms:
    return Pseudonyms(KEY, ["node-0", "node-1", "node-10", "ip-10-0-1-5", "host"], ["corp.zone", "google.com"])


@pytest.mark.parametrize("version", [4, 6])
def test_addresses_share_as_many_bits_as_before(version: int) -> None:
    prefixes, chance = Prefixes(KEY), random.Random(1)
    bits = 32 if version == 4 else 128
    kind = IPv4Address if version == 4 else IPv6Address
    for _ in range(1500 if version == 4 else 150):
        one = chance.getrandbits(bits)
        other = one ^ (chance.getrandbits(bits) >> chance.randrange(bits))
        before = (one ^ other).bit_length()
        assert (int(prefixes.address(kind(one))) ^ int(prefixes.address(kind(other)))).bit_length() == before


@pytest.mark.parametrize(
    "text", "0.0.0.0 127.0.0.53 127.0.0.1 169.254.20.10 224.0.0.1 255.255.255.0 :: ::1 fe80::1 ff02::fb".split()
)
def test_what_means_the_same_everywhere_stays(text: str, named: Pseudonyms) -> None:
    assert named.text(text) == text


@pytest.mark.parametrize(
    "range_", "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 fc00::/7 2000::/3".split()
)
def test_private_stays_private_and_is_another(range_: str) -> None:
    network, chance = ip_network(range_), random.Random(2)
    for key in (KEY, KEY[::-1]):
        prefixes = Prefixes(key)
        found = [network[chance.randrange(network.num_addresses)] for _ in range(50)]
        hidden = [prefixes.address(address) for address in found]
        assert all(address in network for address in hidden)
        assert sum(one == other for one, other in zip(found, hidden, strict=True)) < 2


def test_nothing_else_gets_into_a_range_that_stays() -> None:
    prefixes, chance = Prefixes(KEY), random.Random(3)
    kept = [ip_network(one) for one in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")]
    for _ in range(2000):
        address = IPv4Address(chance.getrandbits(32))
        assert any(address in one for one in kept) == any(prefixes.address(address) in one for one in kept)


def test_another_key_gives_another_network() -> None:
    address = ip_address("172.25.4.1")
    assert len({Prefixes(bytes([number]) * 16).address(address) for number in range(50)}) > 40


def test_networks_stay_networks(named: Pseudonyms) -> None:
    for text, inside in (
        ("172.26.2.0/24", "172.26.2.145"),
        ("fd00:10:244::/64", "fd00:10:244::5"),
        ("10.32.0.0/12", "10.40.1.2"),
    ):
        network = ip_network(named.text(text))
        assert network.prefixlen == ip_network(text).prefixlen
        assert ip_address(named.text(inside)) in network
    own, _, length = named.text("172.26.2.145/24").partition("/")
    assert (own, length) == (named.text("172.26.2.145"), "24")
    assert named.text("0.0.0.0/0 ::/0") == "0.0.0.0/0 ::/0"


def test_free_text(named: Pseudonyms) -> None:
    vip, pod = named.text("172.25.4.1"), named.text("10.244.0.11")
    assert vip != "172.25.4.1"
    for text, expected in {
        "2 google.com. A: read udp 10.244.0.11:4->172.25.4.1:53: i/o timeout": f"A: read udp {pod}:4->{vip}:53: i/o",
        "server=172.25.4.1#53": f"server={vip}#53",
        "-s 10.244.0.11/32 -j DNAT --to-destination 10.244.0.11:53": f"-s {pod}/32 -j DNAT --to-destination {pod}:53",
        "node-0/pod 10.244.0.11/172.25.4.1:53": f"{named.nodes['node-0']}/pod {pod}/{vip}:53",
        "10-244-0-11.x.pod.cluster.local": f"{pod.replace('.', '-')}.",
        "[fd00::1]:53": f"[{named.text('fd00::1')}]:53",
        "::ffff:172.25.4.1": str(IPv6Address(b"\0" * 10 + b"\xff\xff" + IPv4Address(vip).packed)),
        "4.25.172.in-addr.arpa": ".".join(vip.split(".")[2::-1]) + ".in-addr.arpa",
        "1.4.25.172.in-addr.arpa": ".".join(vip.split(".")[::-1]) + ".in-addr.arpa",
    }.items():
        assert expected in named.text(text), text
    nibbles = IPv6Address(named.text("fd00:10:244::5")).exploded.replace(":", "")[::-1]
    assert named.text(ip_address("fd00:10:244::5").reverse_pointer) == ".".join(nibbles) + ".ip6.arpa"


def test_what_only_looks_like_an_address_stays(named: Pseudonyms) -> None:
    for text in (
        "2026-11-22T03:10:00Z 12:34:56",
        "kernel 6.1.0-28-amd64 iptables v1.8.9 dnsmasq 2.90",
        "51:1491705 std::string 1.2.3.4.5.6",
        "net.ipv4.conf.all.rp_filter dnsmasq.service 10-interfaces.conf /etc/dnsmasq.d/k8s.conf cri-0f.scope",
        "999.1.2.3 1:2",
    ):
        assert named.text(text) == text


def test_nodes(named: Pseudonyms) -> None:
    assert named.nodes == {"ip-10-0-1-5": "host-1", "node-0": "host-2", "node-1": "host-3", "node-10": "host-4"}
    assert named.text("node-10 node-1, node-0: xnode-0 node-01") == "host-4 host-3, host-2: xnode-0 node-01"
    assert named.text("host -> 127.0.0.53") == "host -> 127.0.0.53", "a word of the field is no name"
    assert named.everything({"node-0": {"x": 1}, "node-1": {}}) == {"host-2": {"x": 1}, "host-3": {}}
    assert named.everything({"legacy": 1, "node-0/pod 10.0.0.1": [2]})["legacy"] == 1


def test_a_node_may_have_any_name() -> None:
    odd = Pseudonyms(KEY, ["@docker/a b", "198.18.53.10", "dns 1"])
    assert odd.text("[@docker/a b] Ready, dns 1 too") == "[host-1] Ready, host-2 too"
    assert odd.text("198.18.53.10") != "198.18.53.10"
    assert odd.everything({"@docker/a b": 1}) == {"host-1": 1}


def test_names_keep_their_suffixes(named: Pseudonyms) -> None:
    whole, below = named.text("corp.zone"), named.text("a.b.corp.zone")
    assert "corp" not in whole and whole.endswith(".zone") and below.endswith(f".{whole}")
    assert named.text("server=/corp.zone/10.0.0.1").startswith(f"server=/{whole}/")
    assert named.text("CORP.zone") == whole
    assert named.text("www.secret-company.com") != "www.secret-company.com"
    for text in ("google.com", "kubernetes.default.svc.cluster.local", "version.bind", "localhost", "*.cluster.local"):
        assert named.text(text) == text


def test_macs(named: Pseudonyms) -> None:
    mac = named.text("52:54:00:12:34:56")
    assert mac != "52:54:00:12:34:56" and int(mac[:2], 16) & 3 == 0x52 & 3
    assert named.text("ff:ff:ff:ff:ff:ff 00:00:00:00:00:00") == "ff:ff:ff:ff:ff:ff 00:00:00:00:00:00"
    line = named.text("MAC=52:54:00:12:34:56:52:54:00:12:34:56:08:00")
    assert line == f"MAC={mac}:{mac}:08:00"
    own = bytes.fromhex(mac.replace(":", ""))
    hidden = IPv6Address(named.text("fe80::5054:ff:fe12:3456")).packed[8:]
    assert hidden == bytes([own[0] ^ 2]) + own[1:3] + b"\xff\xfe" + own[3:], "the same MAC, in an address"


def test_comments_and_records_are_left_out(named: Pseudonyms) -> None:
    content = "# ask Bob, 555-1234\nserver=/corp.zone/10.0.0.1\n\ndhcp-host=aa:bb:cc:dd:ee:ff,bobs-laptop,10.0.0.9\n"
    hidden = named.everything({"content": content})["content"]
    assert "Bob" not in hidden and "bobs" not in hidden
    assert hidden.count("\n") == content.count("\n"), "line numbers are evidence"
    assert named.everything({"name": "dhcp-host", "value": "bobs-laptop"})["value"] == "(left out)"
    assert named.everything({"name": "except-interface", "value": "cilium_*"})["value"] == "cilium_*"
