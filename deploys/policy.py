"""The policy of one host, checked: group_data, inventory and ``--data`` as pyinfra has merged them."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host

from deploys.policy_rules import RULES
from deploys.ramp import Ramp
from facts import kubectl
from facts.addresses import shortest
from facts.kubectl import Kubectl
from models.kube_services import Mode
from models.path import Names
from operations.alternatives import Target
from operations.cluster_files import Object, Spread
from operations.guard_files import Boot
from probes.hops import Walking
from probes.questions import Asking
from reports.write import FORMATS


class PolicyError(PyinfraError):
    """A value that the policy cannot hold; the message names the file, line and key that set it."""


@dataclass(frozen=True)
class Policy:
    """What is wanted; the keys are explained in group_data/all.py. Times are in seconds."""

    node_deadline: int
    dns_vips: tuple[str, ...] | None
    dns_services: tuple[str, ...] | None
    probe_name: str
    probe_names: dict[str, str]
    service_name: str
    probe_tries: int
    probe_deadline: float
    probe_pods: int
    probe_rate: int
    probe_smallest_loss: float
    capture: str | None
    verify_soak: int
    iptables_backend: Target | None
    conntrack_max: int | None
    dnsmasq_interface_policy: str
    dnsmasq_interfaces: tuple[str, ...] | None
    dnsmasq_foreign_interfaces: tuple[str, ...]
    kubectl: str | None
    kubeconfig: str | None
    kubectl_node: str | None
    dns_namespace: str
    cluster_cordon: bool
    cluster_drain: bool
    drain_timeout: int
    dns_endpoints: int
    coredns_rollout: bool
    coredns_workload: str | None
    coredns_wait: int
    canary_nodes: int
    wave_nodes: int | str
    last_nodes: tuple[str, ...]
    undo_after: int
    guard_boot: Boot
    guard_metrics: str
    cluster_objects: tuple[Object, ...]
    dns_probe_image: str | None
    coredns_spread: Spread
    new_nodes: tuple[str, ...]
    kube_proxy_mode: Mode | None
    kernel_settings: dict[str, str]
    blast_rates: tuple[int, ...]
    blast_seconds: float
    blast_name: str | None

    @property
    def closes_nodes(self) -> bool:
        """Whether nodes take no pods while they are changed."""
        return self.cluster_cordon or self.cluster_drain


#: What the deploys take beside the policy, by `--data` alone.
OPTIONS = (*FORMATS, "before", "bundle", "enforce", "pseudonyms", "remove", "replay", "run", "shard")

#: pyinfra puts them into the command that it sends.
_PASSWORDS = ("_sudo_password", "_su_password")


@cache
def of(host: Host) -> Policy:
    """The host's policy, checked once. Raises PolicyError for a missing, misspelt or impossible value."""
    data: dict[str, Any] = host.data.dict()
    known = [field.name for field in fields(Policy)]
    _check_words(host)
    for key in _PASSWORDS:
        if data.get(key):
            raise PolicyError(
                f"{_place(host, key)}: a password would stand in the node's process list, for every user to read: "
                "sudo without one is needed (NOPASSWD)"
            )
    for key in known:
        if key not in data:
            raise PolicyError(f"group_data/all.py: the key {key} is missing")
        problem = RULES[key](data[key])
        if problem:
            raise PolicyError(f"{_place(host, key)} = {data[key]!r}: {problem}")
    _check_cluster(host, data)
    return of_values({key: data[key] for key in known})


def of_values(values: Mapping[str, Any]) -> Policy:
    """The policy of values that are known to be right, lists as tuples: as group_data has them, or JSON."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    named = {key: tuple(map(shortest, given[key])) for key in ("dns_vips", "dns_services") if given[key]}
    return Policy(**{**given, **named})


def _check_words(host: Host) -> None:
    typed = host.inventory.get_override_data()
    for key in host.data.dict():
        if near := _meant(key, key in typed):
            raise PolicyError(f"{_place(host, key)}: there is no such key; did you mean {near}?")


@cache
def _meant(key: str, typed: bool) -> str:
    """The word that this one was meant to be, "" for none: pyinfra and inventories have their own.

    + typed: whether it came with `--data`: only there it can be an option
    """
    known = [*(field.name for field in fields(Policy)), *(OPTIONS if typed else ())]
    return "" if key in known else next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.85)), "")


class DnsmasqArguments(TypedDict):
    """What `operations.dnsmasq` takes of the policy."""

    policy: str
    interfaces: tuple[str, ...] | None
    foreign: tuple[str, ...]
    vips: tuple[str, ...]


def dnsmasq_arguments(policy: Policy, vips: tuple[str, ...]) -> DnsmasqArguments:
    """The policy in the words of `operations.dnsmasq.interface_policy`; vips: the addresses that serve DNS."""
    return {
        "policy": policy.dnsmasq_interface_policy,
        "interfaces": policy.dnsmasq_interfaces,
        "foreign": policy.dnsmasq_foreign_interfaces,
        "vips": vips,
    }


class LockArguments(TypedDict):
    """What `operations.lock` takes of the policy."""

    policy: dict[str, Any]
    kubectl: Kubectl | None
    namespace: str


def lock_arguments(host: Host) -> LockArguments:
    """The policy in the words of `operations.lock.take`. Raises PolicyError."""
    policy = of(host)
    return {"policy": asdict(policy), "kubectl": cluster(host), "namespace": policy.dns_namespace}


def cluster(host: Host) -> Kubectl | None:
    """The way to the cluster's API; None where the policy names none. Raises PolicyError."""
    policy = of(host)
    node = host.inventory.get_host(policy.kubectl_node) if policy.kubectl_node else None
    return kubectl.of(policy.kubectl, policy.kubeconfig, node)


def _check_cluster(host: Host, data: dict[str, Any]) -> None:
    """Keys that do not go together: each alone is well."""
    node = data["kubectl_node"]
    if node and node not in {each.name for each in host.inventory}:
        raise PolicyError(f"{_place(host, 'kubectl_node')} = {node!r}: the inventory has no such node")
    for key in ("cluster_cordon", "cluster_drain", "dns_endpoints", "coredns_rollout"):
        if data[key] and data["kubectl"] is None:
            raise PolicyError(f"{_place(host, key)} = {data[key]!r}: that needs kubectl, which is None")
    if "probe" in data["cluster_objects"] and data["dns_probe_image"] is None:
        raise PolicyError(f'{_place(host, "cluster_objects")}: "probe" needs dns_probe_image, which is None')


def asking(policy: Policy) -> Asking:
    """How the policy wants nodes to be asked."""
    return Asking(
        policy.probe_name,
        policy.service_name,
        policy.probe_tries,
        policy.probe_deadline,
        policy.probe_pods,
        policy.probe_rate,
    )


def walking(policy: Policy) -> Walking:
    """How the policy wants the hops of a query's path to be asked."""
    names = Names(policy.probe_name, policy.service_name, policy.probe_names)
    return Walking(
        names,
        policy.probe_pods,
        policy.probe_tries,
        policy.probe_deadline,
        policy.probe_smallest_loss,
        policy.probe_rate,
    )


def switch(host: Host, key: str) -> bool:
    """Whether `--data KEY=true` was given. Raises PolicyError for anything but true or false, and for misspelt keys."""
    # A misspelt one is not there, and would be false.
    _check_words(host)
    value = host.data.get(key, False)
    if not isinstance(value, bool):
        raise PolicyError(f"--data {key}={value!r}: must be true or false")
    return value


def ramp(policy: Policy) -> Ramp:
    """How the policy wants DNS to be put under load."""
    return Ramp(policy.blast_rates, policy.blast_seconds, policy.blast_name, policy.service_name, policy.probe_deadline)


def _place(host: Host, key: str) -> str:
    """Who set the key, in the order in which pyinfra lets them win: --data, the inventory, group_data."""
    inventory = host.inventory
    if key in inventory.get_override_data():
        return f"--data {key}"
    if key in inventory.get_host_data(host.name):
        return f"inventory, host {host.name}, {key}"
    for group in [*reversed([group for group in host.groups if group != "all"]), "all"]:
        line = _line(Path("group_data") / f"{group}.py", key)
        if line:
            return f"group_data/{group}.py:{line}: {key}"
    return f"inventory, a group of {host.name}, {key}"


def _line(path: Path, key: str) -> int:
    if not path.is_file():
        return 0
    for node in ast.parse(path.read_text()).body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == key for target in targets):
            return node.lineno
    return 0
