"""What the whole fleet needs, worked out once before anything is changed: changes, refusals, and the order of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from deploys import policy as policies
from deploys.policy import Policy
from facts import snapshot
from facts.netfilter import Backend
from facts.snapshot import Snapshot
from models import kube_backends, kube_services, node
from models.refused import Refused
from models.stale_rules import other, stale
from operations import alternatives, dnsmasq, kube_proxy
from operations.wave import Wave, waves


@dataclass(frozen=True)
class NodeChange:
    """What one node needs.

    + dnsmasq: the edits of its dnsmasq
    + backend: the iptables backend that it is to have, None where nothing of that has to be done
    + switches: whether its commands are another one now; otherwise they are only not chosen for good, or stale rules
      are left
    """

    dnsmasq: list[dnsmasq.Change] = field(default_factory=list)
    backend: Backend | None = None
    switches: bool = False

    def __bool__(self) -> bool:
        return bool(self.dnsmasq or self.backend)


@dataclass(frozen=True)
class Rollout:
    """Per node what it needs, the waves in which it is done, and the addresses of the cluster's DNS services."""

    changes: dict[str, NodeChange]
    waves: tuple[Wave, ...]
    services: tuple[str, ...]


_made: dict[int, Rollout] = {}


def of(state: State) -> Rollout:
    """The rollout for the hosts of this run. Stops the run before any change if a node would have to refuse."""
    if id(state) not in _made:
        hosts = snapshot.active(state.inventory)
        fleet = snapshot.fleet(hosts)
        # Reading let other greenlets in: one of them may have been here.
        if id(state) not in _made:
            _made[id(state)] = _plan(hosts, fleet)
    return _made[id(state)]


def _plan(hosts: list[Host], fleet: Mapping[str, Snapshot | None]) -> Rollout:
    changes: dict[str, NodeChange] = {}
    refusals: list[str] = []
    served = node.vips(fleet, policies.of(hosts[0]).dns_vips)
    majority = _majority(fleet)
    for host in hosts:
        policy = policies.of(host)
        try:
            changes[host.name] = NodeChange(
                dnsmasq.changes(
                    host.name,
                    fleet,
                    policy=policy.dnsmasq_interface_policy,
                    interfaces=policy.dnsmasq_interfaces,
                    foreign=policy.dnsmasq_foreign_interfaces,
                    served=served[host.name],
                ),
                *_backend(fleet[host.name], policy, majority),
            )
        except Refused as refusal:
            refusals.append(f"{host.name}: {refusal}")
    services = tuple(kube_services.vips(fleet, {}))
    if not any(served.values()) and not services:
        logger.warning("no address of these nodes serves DNS (dns_vips in group_data/all.py): nothing can be proven")
    if refusals:
        others = "Nothing was changed on any node. To go on without such a node: --exclude NODE."
        raise PyinfraError("\n    ".join(["stopped before any change:", *refusals, others]))
    policy = policies.of(hosts[0])
    last = [host.name for host in hosts if host.name in policy.last_nodes]
    order = [host.name for host in hosts if host.name not in last] + last
    changing = [name for name in order if changes[name]]
    healthy = [name for name in order if not changes[name]]
    return Rollout(changes, tuple(waves(changing, healthy, policy.canary_nodes, policy.wave_nodes)), services)


def _majority(fleet: Mapping[str, Snapshot | None]) -> Backend | None:
    """The backend that more than half of the cluster's nodes have; None where none has."""
    backends = Counter(
        kube_backends.host(read, 4) for read in fleet.values() if read and read["kube_proxy"]["value"] is not None
    )
    for backend, count in backends.most_common(1):
        if 2 * count > backends.total():
            return backend
    return None


def _backend(read: Snapshot | None, policy: Policy, majority: Backend | None) -> tuple[Backend | None, bool]:
    """The backend that this node has to be brought to, and whether its commands have to be switched for that.

    None where it is there and the other one holds nothing stale. A node without Kubernetes is left alone: which
    iptables it uses is its own matter. Raises Refused.
    """
    if read is None or policy.iptables_backend is None:
        return None, False
    for what in ("kube_proxy", "rulesets", "alternatives"):
        reading = read[what]
        if reading["state"] not in ("value", "empty", "tool missing"):
            raise Refused(f"its {what} are not known: {reading['state']}: {reading['detail']}")
    proxy = read["kube_proxy"]["value"]
    if proxy is None:
        return None, False
    wanted = alternatives.resolve(policy.iptables_backend, read["rulesets"], majority)
    needed = alternatives.selections(read["alternatives"]["value"], wanted)
    if needed and wanted == "legacy":
        alternatives.check_kernel(read["kernel"], None)
    if not needed and not stale(read["rulesets"]["value"], other(wanted)):
        return None, False
    if proxy["form"] != "none":
        kube_proxy.restart_command(proxy)
    backends = read["alternatives"]["value"]
    commands = backends["commands"] if backends else []
    return wanted, any(command["backend"] != wanted for command in commands)
