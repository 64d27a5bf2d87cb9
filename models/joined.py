"""A node as it will be once pods run on it: what dnsmasq would do with their questions can be told before.

The pods, their ways in and their routes are those of another node of the cluster; where none was read, those of the
usual network plugins.
"""

from __future__ import annotations

from collections.abc import Mapping

from facts.interfaces import Address, Interface
from facts.pods import Pod
from facts.routes import Route, outgoing
from facts.snapshot import Snapshot
from models import node
from models.node import Asker

OWN, GUESSED = "its own", "the usual network plugins'"
#: Cilium, and the bridge plugin (flannel, kubenet): where their pods' packets enter a node. Links of single pods
#: (Calico's) are left out: without an address of their own they need another dnsmasq than everybody else.
USUAL = ("cilium_host", "cni0")
#: Ways in that are taken over from another node.
_MOST = 4
#: An address for a pod of nobody's (RFC 6598: no node's LAN, and no public address).
_POD, _ROUTER = "100.127.255.{}", "100.127.254.{}"


def joined(read: Snapshot, others: Mapping[str, Snapshot | None]) -> tuple[Snapshot, str]:
    """The node with pods, and whose pods they are: "its own", "those of node-1", "the usual network plugins'"."""
    if any(asker.kubernetes for asker in node.askers(read)):
        return read, OWN
    for name, other in others.items():
        if other is not None and (askers := [each for each in node.askers(other) if each.kubernetes]):
            return _with(read, [_as_on(other, asker) for asker in _one_for_each_way(askers)]), f"those of {name}"
    return _with(read, [_usual(number, name) for number, name in enumerate(USUAL, 1)]), "the usual network plugins'"


def _with(read: Snapshot, pods: list[tuple[Pod, Interface, Route]]) -> Snapshot:
    interfaces = list(read["interfaces"]["value"])
    routing = read["routes"]["value"] or {"main": [], "rules": []}
    routes = list(routing["main"])
    for _, interface, route in pods:
        if interface["name"] not in {each["name"] for each in interfaces}:
            interfaces.append(interface)
        routes.append(route)
    found = dict(read)
    found["interfaces"] = {**read["interfaces"], "state": "value", "value": interfaces}
    found["routes"] = {**read["routes"], "state": "value", "value": {**routing, "main": routes}}
    found["pods"] = {**read["pods"], "state": "value", "value": [*read["pods"]["value"], *(pod for pod, _, _ in pods)]}
    return found  # type: ignore[return-value]


def _one_for_each_way(askers: list[Asker]) -> list[Asker]:
    return list({asker.arrival: asker for asker in askers}.values())[:_MOST]


def _as_on(other: Snapshot, asker: Asker) -> tuple[Pod, Interface, Route]:
    routing = other["routes"]["value"]
    route = outgoing(routing["main"] if routing else [], asker.address)
    assert route is not None, "an asker has a route"
    pod = next(each for each in other["pods"]["value"] if each["pid"] == asker.pid)
    # With this one address: it would have a route of its own for each.
    pod = {**pod, "addresses": [asker.address]}
    return pod, next(each for each in other["interfaces"]["value"] if each["name"] == asker.arrival), route


def _usual(number: int, name: str) -> tuple[Pod, Interface, Route]:
    """A pod that arrives on an interface of this name."""
    address: Address = {
        "family": 4,
        "address": _ROUTER.format(number),
        "prefix": 32,
        "label": name,
        "scope": "global",
        "deprecated": False,
        "tentative": False,
    }
    interface: Interface = {
        "name": name,
        "index": 0,
        "kind": "dummy",
        "state": "up",
        "mtu": 1500,
        "master": "",
        "peer": None,
        "addresses": [address],
    }
    pod: Pod = {
        "netns": 0,
        # Above any process: PID_MAX_LIMIT is 2 to the power of 22 (linux/threads.h).
        "pid": (1 << 22) + number,
        "processes": [],
        "addresses": [_POD.format(number)],
        "nameservers": [],
        "cgroup": "/kubepods.slice",
        "interfaces": [],
    }
    route: Route = {
        "family": 4,
        "destination": f"{_POD.format(number)}/32",
        "gateway": "",
        "interface": name,
        "source": "",
        "metric": 0,
        "type": "unicast",
        "flags": [],
    }
    return pod, interface, route
