"""Where on a node a question's packets are to be captured: its interfaces' names are discovered, never given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from facts.pods import Pod
from facts.routes import outgoing
from facts.snapshot import Snapshot
from models import node
from probes.capture import MOST_POINTS
from probes.capture_filter import Point, Role
from probes.probe import Probe


def points(snapshot: Snapshot, probes: Sequence[Probe], beyond: Iterable[str]) -> list[Point]:
    """The interfaces that the probes' packets, and what is asked further because of them, may come by.

    + beyond: addresses that the packets may go to from here: the real servers behind a service's address, dnsmasq's
      upstreams. A pod of this node among them is captured inside, the way to any other one where it leaves

    The probes' own ends come first; `MOST_POINTS` of them at most.
    """
    found: list[Point] = []
    for probe in probes:
        found += _source(snapshot, probe)
    goals = dict.fromkeys([*(probe["destination"] for probe in probes), *beyond])
    for goal in goals:
        pod = _pod(snapshot, goal)
        if pod and all(goal != probe["source"]["address"] for probe in probes):
            found += _inside(pod, goal, "target")
    uplinks = dict.fromkeys(name for goal in goals for name in _ways(snapshot, goal))
    arrivals = {point["interface"] for point in found if not point["netns"]}
    found += [_point(name, "uplink") for name in uplinks if name not in arrivals]
    return [point for number, point in enumerate(found) if point not in found[:number]][:MOST_POINTS]


def own_addresses(snapshot: Snapshot) -> set[str]:
    """The node's addresses and those of its pods: who asks further with one of these does it on this node."""
    return {
        *(address["address"] for interface in snapshot["interfaces"]["value"] for address in interface["addresses"]),
        *(address for pod in snapshot["pods"]["value"] for address in pod["addresses"]),
    }


def _source(snapshot: Snapshot, probe: Probe) -> list[Point]:
    address = probe["source"]["address"]
    pod = _pod(snapshot, address)
    if not pod:
        return [_point("lo", "source")] if _local(snapshot, probe["destination"]) else []
    arrivals = [asker.arrival for asker in node.askers(snapshot) if asker.address == address]
    return [*_inside(pod, address, "source"), *(_point(name, "arrival", address) for name in arrivals)]


def _inside(pod: Pod, address: str, role: Role) -> list[Point]:
    for interface in pod["interfaces"]:
        if any(each["address"] == address for each in interface["addresses"]):
            return [
                {
                    "interface": interface["name"],
                    "role": role,
                    "netns": f"/proc/{pod['pid']}/ns/net",
                    "inode": pod["netns"],
                    "host": address,
                }
            ]
    return []


def _ways(snapshot: Snapshot, goal: str) -> list[str]:
    """The interfaces by which packets to an address leave the node; for an address of its own, by the default route."""
    routing = snapshot["routes"]["value"]
    main = routing["main"] if routing else []
    version = ip_address(goal).version
    if _local(snapshot, goal):
        goal = "0.0.0.0" if version == 4 else "::"
        main = [route for route in main if route["destination"] in ("0.0.0.0/0", "::/0")]
    route = outgoing(main, goal)
    return [route["interface"]] if route and route["interface"] else []


def _local(snapshot: Snapshot, address: str) -> bool:
    parsed = ip_address(address)
    return parsed.is_loopback or any(
        ip_address(each["address"]) == parsed
        for interface in snapshot["interfaces"]["value"]
        for each in interface["addresses"]
    )


def _pod(snapshot: Snapshot, address: str) -> Pod | None:
    return next((pod for pod in snapshot["pods"]["value"] if address and address in pod["addresses"]), None)


def _point(interface: str, role: Role, host: str = "") -> Point:
    return {"interface": interface, "role": role, "netns": "", "inode": 0, "host": host}
