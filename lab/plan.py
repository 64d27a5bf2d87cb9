"""Who has which address in the lab: nodes, pods, resolvers. Pure data, nothing is touched here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

MIN_NODES, MAX_NODES = 3, 50

LAN_PREFIX_LENGTH = 24
ROUTER = "172.25.4.254"
BARE_METAL = "172.25.4.9"

MANAGEMENT_NETWORK = "198.18.53.0/24"
MANAGEMENT_LINK = "dnsmend0"
MANAGEMENT_MACHINE = "198.18.53.1"

SSH_USER = "ops"


@dataclass(frozen=True)
class Resolver:
    """A resolver outside the cluster: it answers `domain` (every name below it) with `answer`, and refuses the rest."""

    name: str
    address: str
    domain: str
    answer: str

    @property
    def sample(self) -> str:
        """A name that this resolver, and no other one, answers."""
        return "www.example.com" if self.domain == "." else f"www.{self.domain}"


RESOLVERS = (
    Resolver("cluster", "172.28.0.2", "clusters.zjusct.io", "172.28.0.80"),
    Resolver("campus", "10.10.0.21", "zju.edu.cn", "10.10.0.80"),
    Resolver("other", "192.18.0.2", ".", "198.18.0.80"),
)


@dataclass(frozen=True)
class Pod:
    """A pod: a network namespace on a node; `eth0` inside, a veth without an IPv4 address on the node's side."""

    node: str
    name: str
    address: str

    @cached_property
    def interface(self) -> str:
        """The host's end, named as Cilium names it: `lxc` and hex digits."""
        return "lxc" + self._digest[:12]

    @cached_property
    def host_mac(self) -> str:
        """MAC address of the host's end."""
        return self._mac(0)

    @cached_property
    def pod_mac(self) -> str:
        """MAC address of the pod's eth0."""
        return self._mac(1)

    @property
    def namespace(self) -> str:
        """Path of the pod's network namespace as seen on its node."""
        return f"/run/netns/cni-{self.name}"

    @property
    def unit(self) -> str:
        """The systemd unit on the node that holds the pod's processes."""
        return f"pod-{self.name}.service"

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(f"{self.node}/{self.name}".encode()).hexdigest()

    def _mac(self, end: int) -> str:
        # 02: locally administered, unicast.
        return ":".join(["02", f"{end:02x}"] + [self._digest[i : i + 2] for i in range(12, 20, 2)])


@dataclass(frozen=True)
class NodePlan:
    """The addresses of node number `index`."""

    index: int

    @property
    def name(self) -> str:
        """`node-0`, `node-1`, ..."""
        return f"node-{self.index}"

    @property
    def address(self) -> str:
        """Primary address on bond0."""
        return f"172.25.4.{10 + self.index}"

    @property
    def vip(self) -> str:
        """Second address on bond0, which dnsmasq serves."""
        # .9 is the bare-metal client and .10 upwards are primary addresses.
        return f"172.25.4.{1 + self.index if self.index < 8 else 100 + self.index}"

    @property
    def management(self) -> str:
        """Address on mgmt0, where sshd listens."""
        return f"198.18.53.{10 + self.index}"

    @property
    def pod_cidr(self) -> str:
        """The node's pod network."""
        return f"172.26.{2 + self.index}.0/24"

    @property
    def cilium_host(self) -> str:
        """Address (/32) of the interface `cilium_host`."""
        return f"172.26.{2 + self.index}.58"

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """`client` to ask from, and `coredns`, which forwards to the node's VIP."""
        prefix = f"172.26.{2 + self.index}"
        return (Pod(self.name, "client", f"{prefix}.145"), Pod(self.name, "coredns", f"{prefix}.53"))

    def pod(self, name: str) -> Pod:
        """The pod called `name`. Raises KeyError."""
        for pod in self.pods:
            if pod.name == name:
                return pod
        raise KeyError(name)


def plan_nodes(count: int) -> tuple[NodePlan, ...]:
    """The plans of `count` nodes. Raises ValueError outside of MIN_NODES..MAX_NODES."""
    if not MIN_NODES <= count <= MAX_NODES:
        raise ValueError(f"the lab has {MIN_NODES} to {MAX_NODES} nodes, not {count}")
    return tuple(NodePlan(index) for index in range(count))
