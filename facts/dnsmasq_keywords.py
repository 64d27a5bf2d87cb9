"""The keywords of dnsmasq 2.90: which take a parameter, which may be repeated, and their short letters.

Source: `dnsmasq --help`, dnsmasq(8) and the tables `opts`, `usage` and `OPTSTRING` in its src/option.c. A keyword
behaves the same in a file and on the command line but for two things: only `getopt_long` abbreviates, and a short
letter either always or never takes a parameter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Parameter(Enum):
    """Whether a keyword stands alone, needs `=value`, or may have one."""

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Keyword:
    """One long option.

    + name: as written, without dashes
    + means: the name that dnsmasq treats it as: `domain-suffix` is `domain`, `dhcp-lease` is `dhcp-leasefile`
    + letter: its short option, "" if there is none
    + parameter: whether it takes a value in its long form
    + once: a second one in files is fatal, one in a file overrides the command line
    """

    name: str
    means: str
    letter: str
    parameter: Parameter
    once: bool


_ALIASES = {"dhcp-lease": "dhcp-leasefile", "domain-suffix": "domain"}

# `name` or `name:letter`
_FLAGS = """
    all-servers bind-dynamic bind-interfaces:z bogus-priv:b clear-on-reload conntrack dhcp-authoritative:K
    dhcp-client-update dhcp-fqdn dhcp-ignore-clid dhcp-no-override dhcp-rapid-commit dhcp-sequential-ip
    dns-loop-detect dnssec dnssec-debug dnssec-no-timecheck domain-needed:D enable-ra expand-hosts:E
    filter-A filter-AAAA filterwin2k:f help:w keep-in-foreground:k leasefile-ro:9 localise-queries:y localmx:L log-debug
    log-dhcp no-daemon:d no-hosts:h no-ident no-negcache:N no-ping:5 no-poll:n no-resolv:R no-round-robin
    proxy-dnssec quiet-dhcp quiet-dhcp6 quiet-ra quiet-tftp read-ethers:Z rebind-localhost-ok script-arp
    script-on-renewal selfmx:e stop-dns-rebind strict-order:o strip-mac strip-subnet test tftp-lowercase
    tftp-no-blocksize tftp-no-fail tftp-secure tftp-single-port version:v
"""
_REQUIRED = """
    addn-hosts:H address:A alias:V auth-peer auth-sec-servers auth-zone bogus-nxdomain:B bridge-interface
    caa-record cache-rr cname conf-dir:7 conf-script connmark-allowlist dhcp-boot:M dhcp-circuitid
    dhcp-host:G dhcp-hostsdir dhcp-hostsfile dhcp-ignore:J dhcp-luascript dhcp-mac:4 dhcp-match
    dhcp-name-match dhcp-option-force dhcp-option:O dhcp-optsdir dhcp-optsfile dhcp-pxe-vendor
    dhcp-range:F dhcp-relay dhcp-remoteid dhcp-subscrid dhcp-userclass:j dhcp-vendorclass:U dns-rr
    domain-suffix:s domain:s dynamic-host except-interface:I filter-rr host-record hostsdir ignore-address
    interface-name interface:i ipset listen-address:a local mx-host:m naptr-record nftset
    no-dhcp-interface:2 no-dhcpv4-interface no-dhcpv6-interface ptr-record pxe-prompt pxe-service ra-param
    rebind-domain-ok rev-server server:S shared-network srv-host:W synth-domain tag-if tftp-root
    trust-anchor txt-record:Y
"""
_REQUIRED_ONCE = """
    add-cpe-id auth-server auth-soa auth-ttl dhcp-duid dhcp-lease-max:X dhcp-lease:l dhcp-reply-delay
    dhcp-script:6 dhcp-scriptuser dhcp-ttl dns-forward-max:0 dnssec-limits dnssec-timestamp dumpfile
    dumpmask edns-packet-max:P local-ttl:T log-facility:8 max-cache-ttl max-port max-tcp-connections
    max-ttl min-cache-ttl min-port mx-target:t neg-ttl port-limit port:p query-port:Q servers-file
    tftp-max tftp-mtu tftp-port-range
"""
_OPTIONAL = """
    add-mac bootp-dynamic:3 conf-file:C dhcp-broadcast dhcp-generate-names dhcp-ignore-names dhcp-proxy
    dnssec-check-unsigned enable-tftp log-queries:q resolv-file:r tftp-unique-root
"""
_OPTIONAL_ONCE = """
    add-subnet cache-size:c connmark-allowlist-enable dhcp-alternate-port dhcp-leasefile:l enable-dbus:1
    enable-ubus fast-dns-retry group:g local-service log-async pid-file:x umbrella use-stale-cache user:u
"""

# Their long form may stand alone, their letter never has a parameter.
_LETTERS_WITHOUT_PARAMETER = {"log-queries", "enable-dbus"}


def _keywords(words: str, parameter: Parameter, once: bool) -> dict[str, Keyword]:
    found = {}
    for word in words.split():
        name, _, letter = word.partition(":")
        found[name] = Keyword(name, _ALIASES.get(name, name), letter, parameter, once)
    return found


KEYWORDS: dict[str, Keyword] = {
    **_keywords(_FLAGS, Parameter.NONE, once=False),
    **_keywords(_REQUIRED, Parameter.REQUIRED, once=False),
    **_keywords(_REQUIRED_ONCE, Parameter.REQUIRED, once=True),
    **_keywords(_OPTIONAL, Parameter.OPTIONAL, once=False),
    **_keywords(_OPTIONAL_ONCE, Parameter.OPTIONAL, once=True),
}
"""Every keyword by its long name."""

VERSION = (2, 90)
"""Whose keywords these are."""

# CHANGELOG: not all that came, only what is sure.
_LATER: dict[tuple[int, int], dict[str, Keyword]] = {
    (2, 91): {
        **_keywords("do-0x20-encode no-0x20-encode", Parameter.NONE, once=False),
        **_keywords("dhcp-option-pxe", Parameter.REQUIRED, once=False),
    },
}

LETTERS: dict[str, Keyword] = {
    word.letter: word for word in KEYWORDS.values() if word.letter and word.name == word.means
}
"""The keyword that a short option stands for."""


def letter_takes_parameter(letter: str) -> bool:
    """True if `-x` needs a value, attached or in the next argument (`OPTSTRING`)."""
    word = LETTERS[letter]
    return word.parameter is not Parameter.NONE and word.name not in _LETTERS_WITHOUT_PARAMETER


def once(name: str) -> bool:
    """True for a keyword that files may hold only one of, such as `port` and `local-service`."""
    return name in KEYWORDS and KEYWORDS[name].once


def known_to(version: str) -> Mapping[str, Keyword]:
    """The keywords that a dnsmasq of this version ("2.91") has for certain."""
    found = dict(KEYWORDS)
    for since, later in _LATER.items():
        if since <= (_numbers(version) or VERSION):
            found |= later
    return found


def may_know_more(version: str) -> bool:
    """Whether a dnsmasq may take keywords that `known_to` has not: a later one, or one of an unknown version ("")."""
    numbers = _numbers(version)
    return numbers is None or numbers > VERSION


def _numbers(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version, re.ASCII)
    return (int(match[1]), int(match[2])) if match else None
