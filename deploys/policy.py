"""The policy of one host, checked: group_data, inventory and ``--data`` as pyinfra has merged them."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypedDict, get_args

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host

from deploys.ramp import Ramp
from facts import kubectl
from facts.kubectl import Kubectl
from models import upstreams
from models.interface_policy import POLICIES
from models.kube_services import Mode
from models.path import Names
from operations.alternatives import Target
from operations.cluster_files import OBJECTS, Object, Spread
from operations.guard_files import Boot
from probes.blast import MOST_RATE
from probes.hops import Walking
from probes.questions import Asking


class PolicyError(PyinfraError):
    """A value that the policy cannot hold; the message names the file, line and key that set it."""


@dataclass(frozen=True)
class Policy:
    """What is wanted; the keys are explained in group_data/all.py. Times are in seconds."""

    dns_vips: tuple[str, ...] | None
    probe_name: str
    probe_names: dict[str, str]
    service_name: str
    probe_tries: int
    probe_deadline: float
    probe_pods: int
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


def of(host: Host) -> Policy:
    """The host's policy. Raises PolicyError for a missing, misspelt or impossible value."""
    data: dict[str, Any] = host.data.dict()
    known = [field.name for field in fields(Policy)]
    for key in data:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
        if key not in known and near:
            raise PolicyError(f"{_place(host, key)}: there is no such key; did you mean {near[0]}?")
    for key in known:
        if key not in data:
            raise PolicyError(f"group_data/all.py: the key {key} is missing")
        problem = _RULES[key](data[key])
        if problem:
            raise PolicyError(f"{_place(host, key)} = {data[key]!r}: {problem}")
    _check_cluster(host, data)
    checked: dict[str, Any] = {key: tuple(data[key]) if isinstance(data[key], list) else data[key] for key in known}
    return Policy(**checked)


class DnsmasqArguments(TypedDict):
    """What `operations.dnsmasq` takes of the policy."""

    policy: str
    interfaces: tuple[str, ...] | None
    foreign: tuple[str, ...]
    vips: tuple[str, ...] | None


def dnsmasq_arguments(policy: Policy) -> DnsmasqArguments:
    """The policy in the words of `operations.dnsmasq.interface_policy`."""
    return {
        "policy": policy.dnsmasq_interface_policy,
        "interfaces": policy.dnsmasq_interfaces,
        "foreign": policy.dnsmasq_foreign_interfaces,
        "vips": policy.dns_vips,
    }


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
    return Asking(policy.probe_name, policy.service_name, policy.probe_tries, policy.probe_deadline, policy.probe_pods)


def walking(policy: Policy) -> Walking:
    """How the policy wants the hops of a query's path to be asked."""
    names = Names(policy.probe_name, policy.service_name, policy.probe_names)
    return Walking(names, policy.probe_pods, policy.probe_tries, policy.probe_deadline, policy.probe_smallest_loss)


def json_target(host: Host) -> str:
    """Where `--data json=` wants the JSON: a path, "-" for standard output, "" for nowhere. Raises PolicyError."""
    value = host.data.get("json")
    if value is None:
        return ""
    if not isinstance(value, str) or not value:
        raise PolicyError(f"--data json={value!r}: must be the path of a file, or - for standard output")
    return value


def ramp(policy: Policy) -> Ramp:
    """How the policy wants DNS to be put under load."""
    return Ramp(policy.blast_rates, policy.blast_seconds, policy.blast_name, policy.service_name, policy.probe_deadline)


def _count(low: int, high: int) -> Callable[[Any], str]:
    def rule(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"must be a whole number from {low} to {high}"

    return rule


def _names(value: Any) -> str:
    good = isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)
    return "" if good else "must be a list of names"


def _interfaces(value: Any) -> str:
    problem = _names(value)
    if problem or not any(set(name) & set(' ,"#\n') for name in value):
        return problem
    return "an interface's name holds no space, comma, quote or #"


def _addresses(value: Any) -> str:
    try:
        good = isinstance(value, list | tuple) and value and [ip_address(address) for address in value]
    except ValueError:
        good = False
    return "" if good else "must be None or a list of IP addresses"


def _or_none(rule: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else rule(value)


def _wave(value: Any) -> str:
    share = value[:-1] if isinstance(value, str) and value.endswith("%") else ""
    if share.isdecimal() and 1 <= int(share) <= 100:
        return ""
    return "must be a whole number from 1, or a share from 1% to 100%" if _count(1, 100_000)(value) else ""


def _name(value: Any) -> str:
    return "" if isinstance(value, str) and 0 < len(value) < 254 and " " not in value else "must be a domain name"


def _names_by_domain(value: Any) -> str:
    good = isinstance(value, dict) and not any(_name(word) for pair in value.items() for word in pair)
    if good and all(upstreams.within(name, domain) for domain, name in value.items()):
        return ""
    return "must be a name for each domain, and in it: {'example.com': 'www.example.com'}"


def _share(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0.02 <= value <= 1
    return "" if good else "must be a share from 0.02 to 1"


def _seconds(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0.1 <= value <= 30
    return "" if good else "must be a number of seconds from 0.1 to 30"


def _rates(value: Any) -> str:
    rule = _count(1, MOST_RATE)
    good = isinstance(value, list | tuple) and 0 < len(value) <= 10 and not any(map(rule, value))
    if good and list(value) == sorted(set(value)):
        return ""
    return f"must be a list of up to 10 whole numbers from 1 to {MOST_RATE}, each higher than the one before"


def _folder(value: Any) -> str:
    good = isinstance(value, str) and value and not (Path(value).exists() and not Path(value).is_dir())
    return "" if good else "must be None or the path of a folder"


def _policy(value: Any) -> str:
    return "" if value in POLICIES else f"must be one of {', '.join(POLICIES)}"


def _target(value: Any) -> str:
    return "" if value in get_args(Target) else f"must be None or one of {', '.join(get_args(Target))}"


def _switch(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be True or False"


def _word(value: Any) -> str:
    # A leading "-" would be an option of kubectl.
    good = isinstance(value, str) and value and not value.startswith("-") and not any(map(str.isspace, value))
    return "" if good else "must be a name or a path without spaces"


def _boot(value: Any) -> str:
    return "" if value in get_args(Boot) else f"must be one of {', '.join(get_args(Boot))}"


def _objects(value: Any) -> str:
    good = isinstance(value, list | tuple) and all(each in OBJECTS for each in value)
    return "" if good else f"must be a list of {', '.join(OBJECTS)}"


def _spread(value: Any) -> str:
    return "" if value in get_args(Spread) else f"must be one of {', '.join(get_args(Spread))}"


def _absolute(value: Any) -> str:
    # The units name it without quotes.
    good = isinstance(value, str) and re.fullmatch(r"(/[\w.@+-]+)+", value) and ".." not in value
    return "" if good else "must be the absolute path of a folder, of letters, digits and . _ @ + -"


def _mode(value: Any) -> str:
    modes = [mode for mode in get_args(Mode) if mode]
    return "" if value in modes else f"must be None or one of {', '.join(modes)}"


def _settings(value: Any) -> str:
    good = isinstance(value, dict) and all(isinstance(word, str) and word for pair in value.items() for word in pair)
    if good and all(re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", name) for name in value):
        return ""
    return "must be a value for each name of a kernel setting, both in quotes: {'net.ipv4.ip_forward': '1'}"


_RULES: dict[str, Callable[[Any], str]] = {
    "dns_vips": _or_none(_addresses),
    "probe_name": _name,
    "probe_names": _names_by_domain,
    "service_name": _name,
    "probe_tries": _count(1, 200),
    "probe_deadline": _seconds,
    "probe_pods": _count(1, 20),
    "probe_smallest_loss": _share,
    "capture": _or_none(_folder),
    "verify_soak": _count(0, 3600),
    "iptables_backend": _or_none(_target),
    "conntrack_max": _or_none(_count(1024, 16_777_216)),
    "dnsmasq_interface_policy": _policy,
    "dnsmasq_interfaces": _or_none(_interfaces),
    "dnsmasq_foreign_interfaces": _interfaces,
    "kubectl": _or_none(_word),
    "kubeconfig": _or_none(_word),
    "kubectl_node": _or_none(_word),
    "dns_namespace": _word,
    "cluster_cordon": _switch,
    "cluster_drain": _switch,
    "drain_timeout": _count(10, 3600),
    "dns_endpoints": _count(0, 1000),
    "coredns_rollout": _switch,
    "coredns_workload": _or_none(_word),
    "coredns_wait": _count(10, 3600),
    "canary_nodes": _count(1, 100_000),
    "wave_nodes": _wave,
    "last_nodes": _names,
    "undo_after": _count(30, 3600),
    "guard_boot": _boot,
    "guard_metrics": _absolute,
    "cluster_objects": _objects,
    "dns_probe_image": _or_none(_word),
    "coredns_spread": _spread,
    "new_nodes": _names,
    "kube_proxy_mode": _or_none(_mode),
    "kernel_settings": _settings,
    "blast_rates": _rates,
    "blast_seconds": _seconds,
    "blast_name": _or_none(_name),
}


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
