"""Onboarding of new nodes: which they are, what each is held against, how it is judged, and what it needs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from checks import kept_out
from checks import onboarding as checks
from checks.diagnosis import Diagnosis, Hop
from checks.finding import Finding
from checks.newcomer import Newcomer
from deploys import cases, look, pace
from deploys import policy as policies
from deploys.once import once
from deploys.policy import Policy, PolicyError
from deploys.refusals import stop_for
from facts import snapshot
from facts.netfilter import Backend
from facts.provision import Provision, ProvisionState
from facts.reading import Reading
from facts.snapshot import Snapshot
from models import kernel_settings, node
from models.joined import joined
from models.reference import Reference, reference
from models.refused import Refused
from models.stale_rules import left_alone, other, stale
from operations import alternatives, dnsmasq, sysctl
from operations.sysctl import Settings
from operations.wave import Wave, waves

#: The group of the inventory that names new nodes.
GROUP = "new"
#: A clock is compared to the time that the question takes: a slow answer is asked for again.
_QUICK, _CLOCK_TRIES = 2.0, 4


@dataclass(frozen=True)
class Steps:
    """What brings one new node to the policy.

    + backend: what iptables is to be; losing: the backend that holds rules of an earlier cluster
    + settings: kernel settings that are to be set
    + dnsmasq: the edits by which it will answer pods
    """

    backend: Backend | None = None
    losing: Backend | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    dnsmasq: Sequence[dnsmasq.Change] = ()

    def __bool__(self) -> bool:
        return bool(self.backend or self.losing or self.settings or self.dnsmasq)


@dataclass(frozen=True)
class Onboarding:
    """
    The new nodes of a run.

    + new: those that are reached; missing: names of the others
    + steps: what each needs, with `--data enforce=true`; waves: in which order
    + refused: why a node cannot be brought to the policy, by its name
    + certificates: the latest judgement of each
    """

    new: tuple[Host, ...]
    missing: tuple[str, ...]
    steps: dict[str, Steps]
    waves: tuple[Wave, ...]
    refused: dict[str, str]
    certificates: dict[str, Diagnosis] = field(default_factory=dict)


@once
def of(state: State) -> Onboarding:
    """The onboarding of this run. Raises PolicyError where nothing says which nodes are new."""
    hosts = snapshot.active(state.inventory)
    policy = policies.of(hosts[0])
    names = newcomers(state, policy)
    snapshot.fleet(hosts)
    new = tuple(host for host in hosts if host.name in names)
    steps: dict[str, Steps] = {}
    refused: dict[str, str] = {}
    for host in new if policies.switch(hosts[0], "enforce") else ():
        try:
            steps[host.name] = _steps(host)
        except Refused as reason:
            steps[host.name], refused[host.name] = Steps(), str(reason)
    first = [host.name for host in new if steps.get(host.name)]
    rest = [host.name for host in new if host.name not in first]
    order = tuple(waves(first, rest, policy.canary_nodes, policy.wave_nodes))
    for wave in (each for each in order if not set(first).isdisjoint(each.nodes)):
        # What a judgement asks is known when it has read the node: it takes longer than this.
        stop_for(pace.too_slow(wave, state.config.PARALLEL, policy.undo_after, [0.0], policy.probe_deadline))
    missing = tuple(name for name in names if name not in {host.name for host in new})
    return Onboarding(new, missing, steps, order, refused)


def newcomers(state: State, policy: Policy) -> list[str]:
    """Names of the new nodes: those of `new_nodes` and of the group `new`, else those of --limit, else the only one.

    With a --limit, only those within it.
    """
    inventory = state.inventory
    wanted = [host.name for host in inventory if state.is_host_in_limit(host)]
    named = {*policy.new_nodes, *(host.name for host in inventory if GROUP in host.groups)}
    if unknown := sorted(named - {host.name for host in inventory}):
        raise PolicyError(f"new_nodes: the inventory has no {', '.join(unknown)}")
    if named:
        found = [name for name in wanted if name in named]
        if not found:
            raise PolicyError(f"none of the new nodes ({', '.join(sorted(named))}) is within --limit")
        return found
    if len(wanted) < len(inventory) or len(inventory) == 1:
        return wanted
    raise PolicyError(
        f"which of these {len(wanted)} nodes are new? --limit NODE, --data 'new_nodes=[\"NODE\"]', or a group `{GROUP}`"
        " in the inventory"
    )


def fleet(inventory: Inventory) -> dict[str, Snapshot | None]:
    """Every node of the inventory; None for those that are not reached, or not within --limit."""
    return dict.fromkeys(host.name for host in inventory) | snapshot.fleet(snapshot.active(inventory))


def others(name: str, of_all: Mapping[str, Snapshot | None], new: Iterable[str]) -> dict[str, Snapshot | None]:
    """What a new node is compared with: the nodes that are not new."""
    left_out = {name, *new}
    return {each: read for each, read in of_all.items() if each not in left_out}


def held_against(policy: Policy, cluster: Mapping[str, Snapshot | None]) -> Reference:
    """The policy's words for `models.reference`."""
    return reference(
        cluster,
        backend=policy.iptables_backend,
        mode=policy.kube_proxy_mode,
        settings=policy.kernel_settings,
        conntrack_max=policy.conntrack_max,
    )


def judged(hosts: Sequence[Host], missing: Sequence[str] = ()) -> Diagnosis:
    """Ask from new nodes, and judge them: their certificates. A refused one is a verdict.

    + hosts: new nodes that are reached; missing: names of those that are not
    """
    started = look.now()
    inventory = hosts[0].inventory
    policy = policies.of(hosts[0])
    of_all = fleet(inventory)
    new = newcomers(hosts[0].state, policy)
    readable = [host for host in hosts if of_all[host.name] is not None]
    recorded = look.ask(hosts, of_all, missing, policy, started)
    # A finding that fails is a refusal by itself.
    hops: list[Hop] = kept_out.apart(recorded.evidence["hops"], [], of_all)
    by_name = {case.name: case for case in cases.of(recorded)}
    found: list[Finding] = []
    left: list[str] = []
    own: list[Hop] = []
    for host in readable:
        cluster = others(host.name, of_all, new)
        against = held_against(policies.of(host), cluster)
        brings, asked = _provision(host)
        mine = [hop for hop in hops if hop["node"] == host.name]
        snap = of_all[host.name]
        assert snap is not None
        settings = _settings(host, against)
        found += checks.judge(
            Newcomer(by_name[host.name], against, brings, asked, settings, mine, joined(snap, cluster))
        )
        left += [f"{host.name}: {sentence}" for sentence in against.open]
        own += mine
    left += kept_out.unseen(own)
    nodes = look.troubles({host.name: of_all[host.name] for host in hosts}, missing)
    return {
        "format": 1,
        "started": started,
        "finished": recorded.finished,
        "nodes": nodes,
        "hops": own,
        "findings": found,
        "verdicts": [verdict for name, why in nodes.items() if (verdict := checks.refusal(name, why, found))],
        "timeline": [],
        "unseen": left,
    }


def unreached(missing: Sequence[str]) -> Diagnosis:
    """The certificates of new nodes none of which is reached."""
    nodes = look.troubles({}, missing)
    now = look.now()
    return {
        "format": 1,
        "started": now,
        "finished": now,
        "nodes": nodes,
        "hops": [],
        "findings": [],
        "verdicts": [verdict for name, why in nodes.items() if (verdict := checks.refusal(name, why, []))],
        "timeline": [],
        "unseen": [],
    }


def _steps(host: Host) -> Steps:
    """What brings the node to the policy. Raises Refused."""
    of_all = fleet(host.inventory)
    read = of_all[host.name]
    if read is None:
        raise Refused("the node could not be read")
    policy = policies.of(host)
    cluster = others(host.name, of_all, newcomers(host.state, policy))
    against = held_against(policy, cluster)
    proxy = read["kube_proxy"]["value"]
    backend = losing = None
    if against.backend:
        found, rulesets = read["alternatives"]["value"], read["rulesets"]["value"]
        needed = alternatives.selections(found, against.backend)
        if alone := left_alone(rulesets, other(against.backend), alternatives.switches(found, against.backend)):
            logger.warning(f"{host.name}: {alone}")
            needed, left = [], False
        else:
            left = bool(stale(rulesets, other(against.backend)))
        if proxy and (needed or left):
            raise Refused(
                "Kubernetes runs on it already, and has to follow its iptables: "
                f"pyinfra inventory deploys/fix_dns.py --limit {host.name} -y"
            )
        backend = against.backend if needed else None
        losing = other(against.backend) if left else None
    there = _settings(host, against)
    # What this kernel has not cannot be set: the certificate names it.
    settings = {
        name: value
        for name, value in against.settings.items()
        if name in there and not kernel_settings.same(there[name], value)
    }
    settings |= kernel_settings.conntrack(read, policy.conntrack_max)
    if settings:
        sysctl.check_boot(host, settings)
    return Steps(backend, losing, settings, edits(host, of_all, cluster, policy))


def edits(
    host: Host, of_all: Mapping[str, Snapshot | None], cluster: Mapping[str, Snapshot | None], policy: Policy
) -> list[dnsmasq.Change]:
    """The edits by which the node's dnsmasq will answer pods, those that are not there yet included. Raises Refused."""
    read = of_all[host.name]
    if read is None:
        raise Refused("the node could not be read")
    served = node.vips(of_all, policy.dns_vips)[host.name]
    return dnsmasq.changes(
        host.name,
        {**of_all, host.name: joined(read, cluster)[0]},
        policy=policy.dnsmasq_interface_policy,
        interfaces=policy.dnsmasq_interfaces,
        foreign=policy.dnsmasq_foreign_interfaces,
        served=served,
    )


def _provision(host: Host) -> tuple[Reading[ProvisionState | None], tuple[float, float]]:
    """What the node brings along, and this machine's clock before and after it said so: of the quickest answer."""
    quickest: tuple[Reading[ProvisionState | None], tuple[float, float]] | None = None
    for _ in range(_CLOCK_TRIES):
        before = time.time()
        found = _brings(host)
        asked = (before, time.time())
        if quickest is None or asked[1] - asked[0] < quickest[1][1] - quickest[1][0]:
            quickest = (found, asked)
        if asked[1] - asked[0] < _QUICK or found["state"] != "value":
            break
    assert quickest is not None
    return quickest


def _brings(host: Host) -> Reading[ProvisionState | None]:
    detail = "the node did not answer"
    try:
        found = get_fact(host.state, host, Provision, kwargs={"_timeout": 30}, apply_failed_hosts=False)
        if found:
            return cast("Reading[ProvisionState | None]", found)
    except PyinfraError as error:
        detail = str(error)
    return {"state": "failed", "value": None, "detail": detail}


def _settings(host: Host, against: Reference) -> dict[str, str]:
    names = list(against.settings)
    found: dict[str, str] = get_fact(host.state, host, Settings, kwargs={"names": names}) if names else {}
    return found
