"""What the whole fleet needs, worked out once before anything is changed: changes, refusals, and the order of nodes."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from deploys import policy as policies
from facts import snapshot
from models import node
from models.interface_policy import Refused
from operations import dnsmasq
from operations.wave import Wave, waves


@dataclass(frozen=True)
class Rollout:
    """Per node what dnsmasq needs, and the waves in which it is done."""

    changes: dict[str, list[dnsmasq.Change]]
    waves: tuple[Wave, ...]


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


def _plan(hosts: list[Host], fleet: dict[str, snapshot.Snapshot | None]) -> Rollout:
    changes: dict[str, list[dnsmasq.Change]] = {}
    refusals: list[str] = []
    served = node.vips(fleet, policies.of(hosts[0]).dns_vips)
    for host in hosts:
        policy = policies.of(host)
        try:
            changes[host.name] = dnsmasq.changes(
                host.name,
                fleet,
                policy=policy.dnsmasq_interface_policy,
                interfaces=policy.dnsmasq_interfaces,
                foreign=policy.dnsmasq_foreign_interfaces,
                served=served[host.name],
            )
        except Refused as refusal:
            refusals.append(f"{host.name}: {refusal}")
    if not any(served.values()):
        logger.warning("no address of these nodes serves DNS (dns_vips in group_data/all.py): dnsmasq is left alone")
    if refusals:
        others = "Nothing was changed on any node. To go on without such a node: --exclude NODE."
        raise PyinfraError("\n    ".join(["stopped before any change:", *refusals, others]))
    policy = policies.of(hosts[0])
    last = [host.name for host in hosts if host.name in policy.last_nodes]
    order = [host.name for host in hosts if host.name not in last] + last
    changing = [name for name in order if changes[name]]
    healthy = [name for name in order if not changes[name]]
    return Rollout(changes, tuple(waves(changing, healthy, policy.canary_nodes, policy.wave_nodes)))
