"""The cluster's addresses and names. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.plan import NodePlan, Pod

# Network namespace of the control plane.
CONTROL = "control"

# A name that only the cluster's own DNS answers.
SAMPLE = "kubernetes.default.svc.cluster.local"

# What a node's root is beside a plain one: the backend of the whole fleet, chosen by hand.
HOOKS = tuple(
    f'chroot "$1" update-alternatives --quiet --set {name} /usr/sbin/{name}-legacy'
    for name in ("iptables", "ip6tables")
)

_RESOLVER_PODS = 2


@dataclass(frozen=True)
class Cluster:
    """Address ranges and service addresses."""

    pods: str = "172.26.0.0/16"
    services: str = "10.32.0.0/16"
    api_service: str = "10.32.0.1"
    dns_service: str = "10.32.0.10"
    # The API server: on the LAN for the nodes, on the management network for this machine.
    api_lan: str = "172.25.4.200"
    api_management: str = "198.18.53.2"
    api_port: int = 6443


CLUSTER = Cluster()


def first_resolvers(nodes: Sequence[NodePlan]) -> tuple[Pod, ...]:
    """The pods in CoreDNS's role behind the DNS service after `up`: on the first two nodes."""
    return tuple(node.pod("coredns") for node in nodes[:_RESOLVER_PODS])
