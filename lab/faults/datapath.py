"""The way that packets take between pods and their node."""

from __future__ import annotations

from lab.faults.fault import Fault, Mode, pod_answers
from lab.host import LabError
from lab.places import Node


def _endpoint_routes(node: Node, _: Mode | None) -> str:
    node.write("/etc/cilium/routing", "endpoint-routes\n")
    node.run(["cilium-datapath", "routing"])
    pod = node.plan.pod("client")
    route = node.run(["ip", "route", "get", pod.address]).stdout
    if f"dev {pod.interface} " not in route:
        raise LabError(f"the fault is not live: {route.strip()}")
    udp, tcp = pod_answers(node)
    return f"{pod.address} is reached through {pod.interface}; pod -> {node.plan.vip}: UDP {udp}, TCP {tcp}"


FAULTS = (
    Fault(
        "endpoint-routes",
        "Cilium's endpoint routes: pods arrive on lxc links, which have no IPv4 address and which no one has named",
        _endpoint_routes,
    ),
)
