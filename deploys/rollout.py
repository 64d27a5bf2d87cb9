"""What the whole fleet needs, worked out once before anything is changed: changes, refusals, and the order of nodes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from pyinfra import logger
from pyinfra.api.host import Host
from pyinfra.api.state import State

from checks.case import Case
from deploys import asked as asks
from deploys import endpoints, pace
from deploys import policy as policies
from deploys.asked import Asked
from deploys.once import once
from deploys.policy import Policy
from deploys.refusals import stop_for, stop_if
from facts import parallel, snapshot
from facts.conntrack import not_deletable
from facts.netfilter import Backend
from facts.snapshot import Snapshot
from models import kube_backends, kube_services, node
from models.refused import Refused
from models.resolvers import Fleet
from models.stale_rules import left_alone, other, stale
from operations import alternatives, cluster, dnsmasq, kube_proxy, sysctl
from operations.wave import Wave, ordered, waves
from probes.questions import questions


@dataclass(frozen=True)
class BackendChange:
    """The iptables backend that a node is brought to.

    + switches: whether its commands are another one now
    + cleans: whether the other backend holds rules of kube-proxy or the kubelet

    Neither: its commands are only not chosen for good yet.
    """

    backend: Backend
    switches: bool
    cleans: bool


@dataclass(frozen=True)
class NodeChange:
    """What one node needs.

    + dnsmasq: the edits of its dnsmasq
    + backend: None where nothing of that has to be done
    + asked: what its checks ask for
    + writes_to: the backend that holds kube-proxy's rules when all is done
    + left_alone: why nothing is done about its iptables although the policy wants that, "" where it is
    """

    dnsmasq: list[dnsmasq.Change] = field(default_factory=list)
    backend: BackendChange | None = None
    asked: Asked = field(default_factory=Asked)
    writes_to: Backend = "nft"
    left_alone: str = ""

    def __bool__(self) -> bool:
        return bool(self.dnsmasq or self.backend or self.asked)

    @property
    def goes_back(self) -> bool:
        """Whether the node takes it back by itself where nobody confirms it."""
        return bool(self.dnsmasq or self.backend or self.asked.settings)


@dataclass(frozen=True)
class Rollout:
    """
    What is done in a run.

    + changes: per node what it needs; waves: in which it is done
    + vips: the addresses on which nodes serve DNS; services: those of the cluster's DNS services
    """

    changes: dict[str, NodeChange]
    waves: tuple[Wave, ...]
    vips: tuple[str, ...]
    services: tuple[str, ...]


@once
def of(state: State) -> Rollout:
    """The rollout for the hosts of this run. Stops the run before any change if a node would have to refuse."""
    hosts = snapshot.active(state.inventory)
    part = _part(hosts[0].data.get("shard"))
    fleet = snapshot.everyone(state.inventory)
    policy = policies.of(hosts[0])
    seen = endpoints.of(state)
    wanted = {host.name: policies.of(host) for host in hosts}
    changes, refusals = needed(wanted, fleet, seen.endpoints, max(0, len(state.inventory) - len(fleet)))
    services = tuple(kube_services.vips(fleet, seen.endpoints, policy.dns_services))
    vips = tuple(dict.fromkeys(vip for own in node.vips(fleet, policy.dns_vips).values() for vip in own))
    if not vips and not services:
        logger.warning("no address of these nodes serves DNS (dns_vips in group_data/all.py): nothing can be proven")
    stop_if(refusals)
    stop_if(boot_refusals(hosts, changes))
    for name, change in changes.items():
        if change.left_alone:
            logger.warning(f"{name}: {change.left_alone}")
    order_of_waves = (Wave(part["wave"], part["waves"], tuple(changes)),) if part else in_waves(changes, policy)
    stop_for(too_slow(changes, order_of_waves, wanted, fleet, seen.endpoints, state.config.PARALLEL))
    stop_if(_cluster_refusals(hosts, changes, order_of_waves))
    return Rollout(changes, order_of_waves, vips, services)


def in_waves(changes: Mapping[str, NodeChange], policy: Policy) -> tuple[Wave, ...]:
    """The waves in which this is done."""
    order = ordered(list(changes), policy.last_nodes)
    changing = [name for name in order if changes[name]]
    healthy = [name for name in order if not changes[name]]
    return tuple(waves(changing, healthy, policy.canary_nodes, policy.wave_nodes))


def too_slow(
    changes: Mapping[str, NodeChange],
    order: Sequence[Wave],
    wanted: Mapping[str, Policy],
    fleet: Mapping[str, Snapshot | None],
    known: kube_services.Endpoints,
    parallel: int,
) -> str:
    """
    Why a wave's changes would go back before they are proven, in a sentence; "" where nothing speaks against it.

    + changes, wanted: of each node, what it needs and its policy; fleet, known: as for `needed`
    + parallel: nodes at once
    """
    if not any(change.goes_back for change in changes.values()):
        return ""
    first = next(iter(wanted.values()))
    served = node.vips(fleet, first.dns_vips)
    services = kube_services.vips(fleet, known, first.dns_services)
    for wave in order:
        together = min(parallel, len(wave.nodes))
        going_back = {name: read for name in wave.nodes if changes[name].goes_back and (read := fleet[name])}
        seconds = [
            pace.asking(
                questions(read, served[name], services, policies.asking(wanted[name])),
                wanted[name].probe_rate,
                together,
                served[name],
            )
            for name, read in going_back.items()
        ]
        if not seconds:
            continue
        undo_after = min(wanted[name].undo_after for name in going_back)
        deadline = max(wanted[name].probe_deadline for name in going_back)
        if why := pace.too_slow(wave, together, undo_after, seconds, deadline):
            return why
    return ""


class Part(TypedDict):
    """What a run over shards (deploys/shards_fix.py) tells one that does a part of it: its wave, and the fleet."""

    wave: int
    waves: int
    fleet: dict[str, Snapshot | None]


def _part(file: str | None) -> Part | None:
    if not file:
        return None
    part: Part = json.loads(Path(file).read_bytes())
    snapshot.know(part["fleet"])
    return part


def needed(
    wanted: Mapping[str, Policy], fleet: Mapping[str, Snapshot | None], known: kube_services.Endpoints, unseen: int
) -> tuple[dict[str, NodeChange], list[str]]:
    """
    What each node needs, and the sentences of those that would have to refuse. Asks and touches nothing.

    + wanted: the nodes in their order, with their policies; the first one's speaks for the fleet
    + fleet: what was read of them; known: what the EndpointSlices say
    + unseen: nodes of the inventory that are not among them
    """
    changes: dict[str, NodeChange] = {}
    refusals: list[str] = []
    if not wanted:
        return changes, refusals
    first = next(iter(wanted.values()))
    served = node.vips(fleet, first.dns_vips)
    majority = _majority(fleet, unseen)
    among = Fleet(fleet, served, kube_services.vips(fleet, known, first.dns_services), known)
    for name, policy in wanted.items():
        try:
            backend, alone = _backend(fleet[name], policy, majority)
            asked = asks.of(Case(name, fleet, [], [], endpoints=known, among=among), policy)
            _check_flush(fleet[name], backend, asked)
            changes[name] = NodeChange(
                dnsmasq.changes(
                    name,
                    fleet,
                    policy=policy.dnsmasq_interface_policy,
                    interfaces=policy.dnsmasq_interfaces,
                    foreign=policy.dnsmasq_foreign_interfaces,
                    served=served[name],
                ),
                backend,
                asked,
                _writes_to(fleet[name], backend, asked),
                alone,
            )
        except Refused as refusal:
            refusals.append(f"{name}: {refusal}")
    if first.iptables_backend in ("match-majority", "match-kubelet"):
        changes = _healthy_left_alone(changes)
    return changes, refusals


def _cluster_refusals(hosts: list[Host], changes: Mapping[str, NodeChange], order: tuple[Wave, ...]) -> list[str]:
    """What stands in the way of the policy's steps through kubectl, on nodes that will be changed."""
    policy, kubectl = policies.of(hosts[0]), policies.cluster(hosts[0])
    closing = [[host for host in hosts if host.name in wave and changes[host.name]] for wave in order]
    if kubectl is None or not any(closing):
        return []
    return cluster.preflight(
        kubectl,
        policy.dns_namespace,
        closing if policy.closes_nodes else [],
        drain=policy.cluster_drain,
        rollout=policy.coredns_rollout,
    )


def boot_refusals(hosts: Sequence[Host], changes: Mapping[str, NodeChange]) -> list[str]:
    """The files of nodes that take a setting back at their next boot."""

    def why(host: Host) -> str:
        try:
            sysctl.check_boot(host, changes[host.name].asked.settings)
        except Refused as refusal:
            return str(refusal)
        return ""

    found = parallel.each([host for host in hosts if changes[host.name].asked.settings], why)
    return [f"{name}: {refusal}" for name, refusal in found.items() if refusal]


def _majority(fleet: Mapping[str, Snapshot | None], unseen: int) -> Backend | None:
    """The backend that more than half of the cluster's nodes have, those counted that were not read; else None."""
    backends = Counter(
        kube_backends.host(read, 4) for read in fleet.values() if read and read["kube_proxy"]["value"] is not None
    )
    for backend, count in backends.most_common(1):
        if 2 * count > backends.total() + unseen:
            return backend
    return None


def _healthy_left_alone(changes: dict[str, NodeChange]) -> dict[str, NodeChange]:
    """Where the whole fleet agrees already, nobody's commands are chosen for good: nothing is wrong there."""
    if any(change.backend and (change.backend.switches or change.backend.cleans) for change in changes.values()):
        return changes
    return {name: replace(change, backend=None) for name, change in changes.items()}


def _backend(read: Snapshot | None, policy: Policy, majority: Backend | None) -> tuple[BackendChange | None, str]:
    """The backend that this node has to be brought to; None where it is there and the other one holds nothing stale.

    With it, why that is left alone although it may not be so: what else the node needs does not wait for that.
    A node without Kubernetes is left alone: which iptables it uses is its own matter. Raises Refused.
    """
    if read is None or policy.iptables_backend is None:
        return None, ""
    for what in ("kube_proxy", "rulesets", "alternatives"):
        reading = read[what]
        if reading["state"] not in ("value", "empty", "tool missing"):
            raise Refused(f"{what} could not be read: {reading['state']}: {reading['detail']}")
    proxy = read["kube_proxy"]["value"]
    if proxy is None:
        return None, ""
    wanted = alternatives.resolve(policy.iptables_backend, read["rulesets"], majority)
    needed = alternatives.selections(read["alternatives"]["value"], wanted)
    if needed and wanted == "legacy":
        alternatives.check_kernel(read["kernel"], None)
    switches = alternatives.switches(read["alternatives"]["value"], wanted)
    if alone := left_alone(read["rulesets"]["value"], other(wanted), switches):
        return None, alone
    cleans = bool(stale(read["rulesets"]["value"], other(wanted)))
    if not needed and not cleans:
        return None, ""
    if proxy["form"] != "none":
        kube_proxy.restart_command(proxy)
    return BackendChange(wanted, switches, cleans), ""


def _check_flush(read: Snapshot | None, backend: BackendChange | None, asked: Asked) -> None:
    """Raises Refused where flows are to be forgotten and cannot be; after a change of rules that is a warning only."""
    if read and asked.flush and backend is None and (why := not_deletable(read["dns_flows"])):
        raise Refused(f"{'; '.join(asked.because)}; {why} (Debian: conntrack, RHEL: conntrack-tools)")


def _writes_to(read: Snapshot | None, backend: BackendChange | None, asked: Asked) -> Backend:
    """Where kube-proxy's rules are to be found after a restart. Raises Refused where that cannot be told."""
    proxy = read["kube_proxy"]["value"] if read else None
    if not asked.restart or read is None or proxy is None:
        return backend.backend if backend else "nft"
    kube_proxy.restart_command(proxy)
    found = backend.backend if backend else kube_services.active(read, 4)
    if found is None and kube_services.mode(read) != "nftables":
        raise Refused("kube-proxy is to be restarted, and nothing tells which iptables backend it writes to")
    return found or "nft"
