"""Which way a node's packets go: its main routing table, and the kernel's own answer for one address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Literal, TypedDict

from pyinfra.api.exceptions import FactValueError
from typing_extensions import override

from facts.addresses import address_text, ip_address, ip_network
from facts.iproute import SHOW, objects
from facts.reading import NodeFact, commands


class Route(TypedDict):
    """One next hop: a route with several of them is listed once for each.

    `destination` is a prefix ("0.0.0.0/0" for the default route). `gateway`, `interface` and `source` are "" where the
    kernel has none. `type` is "unicast", "local", "unreachable", "blackhole", "prohibit", "throw" ...; `flags` are
    iproute2's words, "dead" and "linkdown" among them.
    """

    family: Literal[4, 6]
    destination: str
    gateway: str
    interface: str
    source: str
    metric: int
    type: str
    flags: list[str]


class Rule(TypedDict):
    """One rule of the routing policy. `selector` is "" for a rule that every packet matches."""

    family: Literal[4, 6]
    priority: int
    selector: str
    table: str


class RoutingTables(TypedDict):
    """The main table, and the rules that say when it is asked."""

    main: list[Route]
    rules: list[Rule]


#: For each family: about 5000 routes, and as many rules as any node has.
MOST_BYTES = 600_000
MOST_RULE_BYTES = 60_000


class Routes(NodeFact[RoutingTables | None]):
    """The main routing table of both families, and the policy rules. Source: ip-route(8) and ip-rule(8).

    .. code:: python

        {
            "state": "value",
            "value": {
                "main": [
                    {"family": 4, "destination": "172.26.3.0/24", "gateway": "172.25.4.11", "interface": "bond0",
                     "source": "", "metric": 0, "type": "unicast", "flags": []},
                ],
                "rules": [{"family": 4, "priority": 32766, "selector": "", "table": "main"}],
            },
            "detail": "",
        }
    """

    # Without IPv6 in the kernel, the question for it is answered with IPv4 routes or an error (rtnetlink's fallback).
    script = f"""{SHOW}
for family in 4 6; do
    [ "$family" = 4 ] || [ -d /proc/sys/net/ipv6 ] || continue
    echo "main $family"
    show {MOST_BYTES} ip -j "-$family" route show table main
    echo "rules $family"
    show {MOST_RULE_BYTES} ip -j "-$family" rule show
done
"""

    @staticmethod
    @override
    def nothing() -> RoutingTables | None:
        return None

    @override
    def read(self, output: list[str]) -> RoutingTables | None:
        tables: RoutingTables = {"main": [], "rules": []}
        for title, answer in zip(output[0::2], output[1::2], strict=True):
            what, _, number = title.partition(" ")
            family = _family(number)
            if what == "main":
                tables["main"] += [hop for entry in objects(answer) for hop in _hops(entry, family)]
            elif what == "rules":
                tables["rules"] += [_rule(entry, family) for entry in objects(answer)]
            else:
                raise ValueError(f"unknown table {title!r}")
        return tables


class RouteTo(NodeFact[Route | None]):
    """What the kernel would do with a packet to one address: all tables and rules are asked, not the main one only.

    + address: an IPv4 or IPv6 address without a scope

    "empty" means that there is no way to it; `detail` has the kernel's words. Source: `ip route get`, ip-route(8).
    `destination` is the address itself, and `type` is "local" for an address of the node.

    .. code:: python

        {
            "state": "value",
            "value": {"family": 4, "destination": "172.26.2.145/32", "gateway": "", "interface": "cilium_host",
                      "source": "172.26.2.58", "metric": 0, "type": "unicast", "flags": []},
            "detail": "",
        }
    """

    # A prohibit route is answered with EACCES, an unreachable one with EHOSTUNREACH, a blackhole with EINVAL
    # (fib_props, net/ipv4/fib_semantics.c): answers to the question, not failures of it.
    script_template = r"""
answer=$(ip -j route get {address} 2>&1) && {{ printf '%s\n' "$answer"; exit 0; }}
code=$?
printf '%s\n' "$answer" | sed 's/Permission denied/prohibited/' >&2
case $answer in
    "RTNETLINK answers: "*) exit 0 ;;
esac
exit "$code"
"""

    @staticmethod
    @override
    def nothing() -> Route | None:
        return None

    @override
    def command(self, address: str) -> str:  # type: ignore[override]  # the address is the fact's argument
        """Raises FactValueError for anything but an address: nothing else may reach the shell."""
        try:
            target = ipaddress.ip_address(address)
        except ValueError as error:
            raise FactValueError(str(error)) from error
        # A scope may hold any character, and routes are not looked up by it.
        if isinstance(target, ipaddress.IPv6Address) and target.scope_id is not None:
            raise FactValueError(f"an address without a scope is needed: {address!r}")
        self.script = self.script_template.format(address=target)
        return commands([self])

    @override
    def read(self, output: list[str]) -> Route | None:
        entries = objects("\n".join(output))
        if not entries:
            return None
        family = _family(str(ipaddress.ip_address(entries[0]["dst"]).version))
        return _hops(entries[0], family)[0]


def outgoing(routes: Iterable[Route], address: str) -> Route | None:
    """The route of a table that a packet to `address` takes: the longest prefix, then the lowest metric.

    The node's own addresses are in the table "local", which is asked first and is not a part of `Routes`.
    Raises ValueError when `address` is none.
    """
    target = ip_address(address)
    found: list[tuple[int, int, Route]] = []
    for route in routes:
        network = ip_network(route["destination"])
        if target in network and "dead" not in route["flags"]:
            found.append((-network.prefixlen, route["metric"], route))
    return min(found, key=lambda candidate: candidate[:2])[2] if found else None


def _family(number: str) -> Literal[4, 6]:
    return 6 if number == "6" else 4


def _hops(entry: dict[str, Any], family: Literal[4, 6]) -> list[Route]:
    return [_hop(entry, family, hop) for hop in entry.get("nexthops", [])] or [_hop(entry, family, entry)]


def _hop(entry: dict[str, Any], family: Literal[4, 6], hop: dict[str, Any]) -> Route:
    return {
        "family": family,
        "destination": _prefix(str(entry["dst"]), family),
        # "via": the gateway of an IPv4 route is an IPv6 address (RFC 5549).
        "gateway": _text(hop.get("gateway", hop.get("via", {}).get("host", ""))),
        "interface": str(hop.get("dev", "")),
        "source": _text(entry.get("prefsrc", "")),
        "metric": int(entry.get("metric", 0)),
        "type": str(entry.get("type", "unicast")),
        "flags": [str(flag) for one in ([entry] if hop is entry else [entry, hop]) for flag in one.get("flags", [])],
    }


def _text(address: object) -> str:
    return address_text(str(address)) if address else ""


def _prefix(destination: str, family: Literal[4, 6]) -> str:
    if destination == "default":
        return "0.0.0.0/0" if family == 4 else "::/0"
    return str(ip_network(destination))


def _rule(entry: dict[str, Any], family: Literal[4, 6]) -> Rule:
    told_apart = {"priority", "table", "protocol"}
    selector = [
        f"{key} {value}" for key, value in entry.items() if key not in told_apart and (key, value) != ("src", "all")
    ]
    return {
        "family": family,
        "priority": int(entry["priority"]),
        "selector": " ".join(selector),
        "table": str(entry.get("table", "")),
    }
