"""What the rules of FORWARD make of a pod's DNS query and of its answer.

Both backends' rules apply to every packet, so each ruleset is walked by itself: one of them that drops is enough. A
walk knows the pod's address and interface, not the other end and not the packet's marks: a rule that depends on those
may take the packet or not, and the result is then "maybe".

Sources: iptables(8), iptables-extensions(8).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal, NamedTuple

from facts.netfilter import Ruleset
from facts.netfilter_table import Rule, Table
from facts.nft_hooks import MOST_RULES, Hook

Verdict = Literal["passes", "dropped", "maybe"]

#: Whether a condition holds; None: it depends on what is not known.
Holds = bool | None

#: What in an nft rule may let a packet pass.
_TAKES = re.compile(r"\b(accept|jump|goto|vmap|queue|return)\b")

_DROPS = ("DROP", "REJECT")
#: The comment of kube-proxy's rule in KUBE-FORWARD for what it has marked, to masquerade it.
_MARKED = "kubernetes forwarding rules"
#: Targets after which the next rule is read.
_GOES_ON = ("", "LOG", "NFLOG", "MARK", "CONNMARK", "CT", "TCPMSS", "TRACE", "CLASSIFY", "DSCP", "TOS", "CHECKSUM")


@dataclass(frozen=True)
class Packet:
    """A DNS packet over UDP between a pod and somebody elsewhere.

    `pod` is the address of one end, `links` the interfaces of the node by which it may be reached. `new`: it is the
    question, which opens the flow, and leaves the node by another interface; otherwise the answer.
    """

    pod: str
    links: Collection[str]
    new: bool


class Passage(NamedTuple):
    """What becomes of a packet, and the rule or the policy that decided."""

    verdict: Verdict
    decided: str


def through(ruleset: Ruleset, packet: Packet) -> Passage:
    """The way of a packet through FORWARD in one ruleset; it passes where there is no such chain."""
    unread = ruleset["state"] not in ("value", "empty") and not _nothing_there(ruleset)
    if unread or "filter" in ruleset["incompatible"]:
        return Passage("maybe", f"the rules were not read: {ruleset['detail'] or ruleset['state']}")
    table = next((one for one in ruleset["tables"] if one["name"] == "filter"), None)
    if table is None or "FORWARD" not in table["policies"]:
        return Passage("passes", "no FORWARD chain")
    if "passage" not in table or "passage" in table["cut"]:
        return Passage("maybe", "the rules of FORWARD were not read completely")
    walk = _Walk(table, packet)
    ended = walk.through("FORWARD")
    if ended is None:
        policy = table["policies"]["FORWARD"]
        ended = Passage("dropped" if policy == "DROP" else "passes", f"policy FORWARD {policy}")
    if walk.unsure and ended.verdict == "dropped":
        return Passage("maybe", f"{ended.decided}, unless: {walk.unsure[0]}")
    return ended


def _nothing_there(ruleset: Ruleset) -> bool:
    return ruleset["state"] == "tool missing" and ruleset["backend"] == "legacy" and not ruleset["registered"]


class _Walk:
    """Reads a table's rules in the order in which a packet meets them."""

    def __init__(self, table: Table, packet: Packet) -> None:
        self._packet = packet
        self._chains: dict[str, list[Rule]] = {}
        for rule in table.get("passage", []):
            self._chains.setdefault(rule["chain"], []).append(rule)
        self._empty = {chain for chains in table["chain_names"].values() for chain in chains}
        #: Rules that let the packet pass if what is not known is so.
        self.unsure: list[str] = []

    def through(self, chain: str, sure: bool = True, within: Sequence[str] = ()) -> Passage | None:
        """Where the packet's way ends in this chain; None where it comes out at its end."""
        if chain in within:
            return None
        for rule in self._chains.get(chain, []):
            holds = _holds(rule["text"], self._packet)
            if holds is False:
                continue
            target, certain = rule["target"], sure and holds is True
            if target in ("ACCEPT", *_DROPS):
                if certain:
                    return Passage("passes" if target == "ACCEPT" else "dropped", rule["text"])
                if target == "ACCEPT":
                    self.unsure.append(rule["text"])
            elif target == "RETURN":
                if certain:
                    return None
                # What follows in this chain is met only if this rule does not take the packet.
                sure = False
            elif target in self._chains:
                if ended := self.through(target, certain, (*within, chain)):
                    return ended
            elif target not in _GOES_ON and target not in self._empty and not _is_chain(target):
                # NFQUEUE and others: somebody else decides.
                self.unsure.append(rule["text"])
        return None


def _is_chain(target: str) -> bool:
    # Targets of iptables are one word in capitals. This is a chain without rules; not all of their names are sent.
    return not target.isupper() or "-" in target or "_" in target


def _holds(text: str, packet: Packet) -> Holds:
    """Whether a rule's conditions hold for a packet: False if any does not, None if that depends on what is unknown."""
    try:
        words = iter(shlex.split(text)[2:])
    except ValueError:
        return None
    result: Holds = True
    inverted = False
    kube = text.startswith("-A KUBE-FORWARD ")
    for word in words:
        if word in ("-j", "-g"):
            break
        if word == "!":
            inverted = True
        elif word in ("-m", "--comment"):
            if next(words, "") == _MARKED and kube:
                # An iptables before 1.8.8 prints the rule of a later one without its mark (kubernetes#112477).
                return False
        elif word.startswith("-"):
            one = _condition(word, next(words, ""), packet, kube=kube)
            if one is not None and one == inverted:
                return False
            result = None if one is None else result
            inverted = False
    return result


def _condition(option: str, value: str, packet: Packet, *, kube: bool) -> Holds:
    """One condition. An option that takes no value makes the next word one of its own: the result is None anyway."""
    if option in ("-s", "-d"):
        return _within(packet.pod, value) if packet.new == (option == "-s") else None
    if option in ("-i", "-o"):
        matches = {_matches(name, value) for name in packet.links}
        if packet.new == (option == "-i"):
            return matches.pop() if len(matches) == 1 else None
        # The other side is any interface but these.
        return False if value in packet.links else None
    if option == "-p":
        return value in ("udp", "all", "17")
    if option in ("--ctstate", "--state"):
        states = set(value.split(","))
        return ("NEW" if packet.new else "ESTABLISHED") in states or (None if states & {"DNAT", "SNAT"} else False)
    if option in ("--dport", "--dports", "--sport", "--sports"):
        return _covers(value, 53) if packet.new == option.startswith("--d") else None
    if option == "--mark" and kube:
        # kube-proxy marks what it will masquerade: not a query from a pod to a pod.
        return False
    return None


def _within(address: str, network: str) -> bool:
    try:
        return ip_address(address) in ip_network(network, strict=False)
    except ValueError:
        return False


def _matches(interface: str, pattern: str) -> bool:
    return interface.startswith(pattern[:-1]) if pattern.endswith("+") else interface == pattern


def _covers(ports: str, port: int) -> bool:
    for part in ports.split(","):
        first, _, last = part.partition(":")
        if first.isdigit() and int(first) <= port <= int(last or first):
            return True
    return False


def native(hook: Hook) -> Passage:
    """What a native nftables chain at `forward` makes of any packet: its conditions are not understood here."""
    where = f"{hook['table']} {hook['chain']}"
    last = hook["rules"][-1] if hook["rules"] else ""
    ends = f"policy {hook['policy']}"
    if last == "drop" or last.startswith("reject"):
        ends = last
    elif hook["policy"] != "drop":
        return Passage("passes", f"{where}: {ends}")
    takes = [rule for rule in hook["rules"] if _TAKES.search(rule)]
    if takes or len(hook["rules"]) >= MOST_RULES:
        return Passage("maybe", f"{where}: {ends}, unless: {takes[0] if takes else 'a rule before these'}")
    return Passage("dropped", f"{where}: {ends}")
