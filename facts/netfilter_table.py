"""One iptables table as the node condensed it, and the ways that DNS takes through its NAT rules."""

from __future__ import annotations

import re
from typing import NotRequired, TypedDict

from facts.netfilter_chains import HINTS, OWNERS, Owner, owner_of


class Rule(TypedDict):
    """One rule with its counters. `text` is verbatim ("-A CHAIN ..."), `target` "" for a rule that only counts."""

    text: str
    chain: str
    target: str
    packets: int
    bytes: int


class Duplicate(TypedDict):
    """A rule that stands `times` times in its table."""

    text: str
    times: int


class Table(TypedDict):
    """One table.

    `policies` are those of its built-in chains. `owned` are kube-proxy's and the kubelet's chains (an allow-list of
    names), `hashed` how many there are for services and endpoints by kind ("SVC", "SEP" ...). `rules` and `chains`
    count rules and user chains by owner; "kube" rules are those in owned chains, and `links`: the jumps of kube-proxy
    and the kubelet from built-in chains into them. `chain_names` holds the first names for each other owner.
    `foreign_jumps` are somebody else's rules that lead into an owned chain: it cannot be deleted while they are there.
    `dns` are the rules for port 53 or kube-dns, with the chains that they lead to. `foreign_digest` is a SHA-256 of all
    foreign rules and chains in their order, without counters. `cut` says how many rules of a kind there are, where
    more exist than were sent. `passage` are, in the table `filter`, the rules of FORWARD and of the chains that it
    leads to, without kube-proxy's that only reject services without endpoints, and those of KUBE-FIREWALL.
    """

    name: str
    policies: dict[str, str]
    owned: list[str]
    hashed: dict[str, int]
    rules: dict[Owner, int]
    chains: dict[Owner, int]
    chain_names: dict[Owner, list[str]]
    links: list[Rule]
    foreign_jumps: list[Rule]
    dns: list[Rule]
    duplicates: list[Duplicate]
    foreign_digest: str
    cut: dict[str, int]
    passage: NotRequired[list[Rule]]


class Dnat(TypedDict):
    """One way of a query: from the rule that takes it to the rule that rewrites its destination.

    `vip` is the destination that the first rule asks for, "" for any; `protocol` "udp" or "tcp", "" for any. `to` is
    the new destination ("10.244.0.12:53"). `path` are the chains on the way, `rule` is the rewriting one, and `entry`
    the first. `owner` is whose chain it starts in.
    """

    vip: str
    protocol: str
    to: str
    path: list[str]
    entry: Rule
    rule: Rule
    owner: Owner


_COUNTED = re.compile(r"\[(\d+):(\d+)\] (-A (\S+).*)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_TARGET = re.compile(r" -[jg] (\S+)")
_PORT_53 = re.compile(r" --dports? (?:[0-9:]+,)*53(?:[ ,]|$)")


def read_rule(line: str) -> Rule:
    """A rule of `iptables-save -c`: `[packets:bytes] -A CHAIN ...`. Raises ValueError for anything else."""
    match = _COUNTED.fullmatch(line)
    if not match:
        raise ValueError(f"no rule with counters: {line!r}")
    packets, octets, text, chain = match.groups()
    target = _TARGET.search(_QUOTED.sub("", text))
    return {
        "text": text,
        "chain": chain,
        "target": target[1] if target else "",
        "packets": int(packets),
        "bytes": int(octets),
    }


def read_table(lines: list[str]) -> Table:
    """A table of the node's answer: lines that start with what they are. Raises ValueError for an unknown one."""
    table: Table = {
        "name": "",
        "policies": {},
        "owned": [],
        "hashed": {},
        "rules": {},
        "chains": {},
        "chain_names": {},
        "links": [],
        "foreign_jumps": [],
        "dns": [],
        "duplicates": [],
        "foreign_digest": "",
        "cut": {},
        "passage": [],
    }
    for line in lines:
        word, _, rest = line.partition(" ")
        first, _, second = rest.partition(" ")
        if word == "table":
            table["name"] = rest
        elif word == "policy":
            table["policies"][first] = second
        elif word == "owned":
            table["owned"].append(rest)
        elif word == "hashed":
            table["hashed"][first] = int(second)
        elif word == "count":
            table["rules"][_owner(first)] = int(second)
        elif word == "chains":
            table["chains"][_owner(first)] = int(second)
        elif word == "chain":
            table["chain_names"].setdefault(_owner(first), []).append(second)
        elif word == "link":
            table["links"].append(read_rule(rest))
        elif word == "foreign-jump":
            table["foreign_jumps"].append(read_rule(rest))
        elif word == "dns":
            table["dns"].append(read_rule(rest))
        elif word == "passage":
            table["passage"].append(read_rule(rest))
        elif word == "duplicate":
            table["duplicates"].append({"text": second, "times": int(first)})
        elif word == "digest":
            # sha256sum(1) names its standard input "-".
            table["foreign_digest"] = rest.removesuffix("-").rstrip()
        elif word == "cut":
            table["cut"][first] = int(second)
        else:
            raise ValueError(f"unknown line {line!r}")
    return table


def hints(table: Table) -> list[str]:
    """The hint and canary chains in the table: which backend the kubelet and kube-proxy wrote to."""
    return [chain for chain in table["owned"] if chain in HINTS]


def dnat_targets(table: Table) -> list[Dnat]:
    """Where the table's rules send DNS queries, way by way; a rule that no rule for port 53 leads to is not one."""
    found: list[Dnat] = []
    for entry in table["dns"]:
        if _PORT_53.search(_QUOTED.sub("", entry["text"])):
            _follow(table["dns"], entry, entry, [], found)
    return found


def _follow(rules: list[Rule], entry: Rule, rule: Rule, path: list[str], found: list[Dnat]) -> None:
    if rule["chain"] in path:
        return
    path = [*path, rule["chain"]]
    if rule["target"] == "DNAT":
        found.append(
            {
                "vip": _option(entry["text"], "-d").removesuffix("/32").removesuffix("/128"),
                "protocol": _option(entry["text"], "-p"),
                "to": _option(rule["text"], "--to-destination"),
                "path": path,
                "entry": entry,
                "rule": rule,
                "owner": owner_of(entry["chain"]),
            }
        )
        return
    for after in rules:
        if after["chain"] == rule["target"]:
            _follow(rules, entry, after, path, found)


def _option(text: str, name: str) -> str:
    words = _QUOTED.sub('""', text).split()
    at = words.index(name) if name in words else -1
    if at < 0 or words[at - 1] == "!":
        return ""
    return words[at + 1]


def _owner(word: str) -> Owner:
    if word not in OWNERS:
        raise ValueError(f"unknown owner {word!r}")
    return word
