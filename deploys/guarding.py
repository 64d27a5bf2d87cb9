"""What the guards of the whole fleet need, worked out once before anything is changed: refusals, and the waves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host
from pyinfra.api.state import State

from deploys import policy as policies
from deploys.once import once
from deploys.refusals import stop_if
from facts import snapshot
from facts.guards import Guards, Installed
from facts.parallel import each
from facts.reading import Reading
from facts.snapshot import Snapshot
from models import kube_services, node
from models.path import Names
from models.refused import Refused
from operations import guard_files, guards
from operations.guards import Wanted
from operations.wave import Wave, ordered, waves
from probes import guard as asking


@dataclass(frozen=True)
class Guarding:
    """The waves, and what is wanted of each node's guard: of none, where `--data remove=true` says so.

    + changing: the nodes where that is not what is there
    """

    changing: tuple[str, ...]
    waves: tuple[Wave, ...]
    wanted: dict[str, Wanted]
    remove: bool


@once
def of(state: State) -> Guarding:
    """The guards' rollout for the hosts of this run. Stops the run before any change if a node would have to refuse."""
    hosts = snapshot.active(state.inventory)
    remove = policies.switch(hosts[0], "remove")
    return _plan(hosts, {} if remove else snapshot.fleet(hosts), each(hosts, _guards), remove)


def _guards(host: Host) -> Reading[Installed | None]:
    folders = guard_files.needed_folders(policies.of(host).guard_metrics)
    reading = get_fact(host.state, host, Guards, kwargs={"folders": folders}, apply_failed_hosts=False)
    failed: Reading[Installed | None] = {"state": "failed", "value": None, "detail": "the node could not be read"}
    return cast("Reading[Installed | None]", reading or failed)


def _wanted(hosts: list[Host], fleet: Mapping[str, Snapshot | None]) -> dict[str, Wanted]:
    first = policies.of(hosts[0])
    vips = node.vips(fleet, first.dns_vips)
    services = tuple(kube_services.vips(fleet, {}, first.dns_services))
    programs = tuple(asking.programs(fleet, vips, services))
    found: dict[str, Wanted] = {}
    for host in hosts:
        policy = policies.of(host)
        fixed = policy.iptables_backend
        found[host.name] = Wanted(
            names=Names(policy.probe_name, policy.service_name, policy.probe_names),
            deadline_s=policy.probe_deadline,
            vips=vips[host.name],
            services=services,
            programs=programs,
            backend=fixed if fixed == "legacy" or fixed == "nft" else None,
            boot=policy.guard_boot,
            metrics=policy.guard_metrics,
        )
    return found


def _plan(
    hosts: list[Host],
    fleet: Mapping[str, Snapshot | None],
    found: Mapping[str, Reading[Installed | None]],
    remove: bool,
) -> Guarding:
    wanted = {} if remove else _wanted(hosts, fleet)
    refusals: list[str] = []
    changing: list[str] = []
    for host in hosts:
        try:
            if remove:
                changes = bool(guards.unedited(found[host.name])["files"])
            else:
                changes = not guards.same(*guards.plan(fleet[host.name], wanted[host.name], found[host.name]))
            changing += [host.name] if changes else []
        except Refused as refusal:
            refusals.append(f"{host.name}: {refusal}")
    stop_if(refusals)
    policy = policies.of(hosts[0])
    order = ordered([host.name for host in hosts], policy.last_nodes)
    order_of_waves = tuple(waves(order, [], policy.canary_nodes, policy.wave_nodes))
    return Guarding(tuple(changing), order_of_waves, wanted, remove)
