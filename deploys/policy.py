"""The policy of one host, checked: group_data, inventory and ``--data`` as pyinfra has merged them."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypedDict, get_args

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host

from models.interface_policy import POLICIES
from operations.alternatives import Target
from probes.questions import Asking


class PolicyError(PyinfraError):
    """A value that the policy cannot hold; the message names the file, line and key that set it."""


@dataclass(frozen=True)
class Policy:
    """What is wanted; the keys are explained in group_data/all.py. Times are in seconds."""

    dns_vips: tuple[str, ...] | None
    probe_name: str
    service_name: str
    probe_tries: int
    probe_deadline: float
    probe_pods: int
    verify_soak: int
    iptables_backend: Target | None
    conntrack_max: int | None
    dnsmasq_interface_policy: str
    dnsmasq_interfaces: tuple[str, ...] | None
    dnsmasq_foreign_interfaces: tuple[str, ...]
    canary_nodes: int
    wave_nodes: int | str
    last_nodes: tuple[str, ...]
    undo_after: int


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


def asking(policy: Policy) -> Asking:
    """How the policy wants nodes to be asked."""
    return Asking(policy.probe_name, policy.service_name, policy.probe_tries, policy.probe_deadline, policy.probe_pods)


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


def _seconds(value: Any) -> str:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0.1 <= value <= 30
    return "" if good else "must be a number of seconds from 0.1 to 30"


def _policy(value: Any) -> str:
    return "" if value in POLICIES else f"must be one of {', '.join(POLICIES)}"


def _target(value: Any) -> str:
    return "" if value in get_args(Target) else f"must be None or one of {', '.join(get_args(Target))}"


_RULES: dict[str, Callable[[Any], str]] = {
    "dns_vips": _or_none(_addresses),
    "probe_name": _name,
    "service_name": _name,
    "probe_tries": _count(1, 200),
    "probe_deadline": _seconds,
    "probe_pods": _count(1, 20),
    "verify_soak": _count(0, 3600),
    "iptables_backend": _or_none(_target),
    "conntrack_max": _or_none(_count(1024, 16_777_216)),
    "dnsmasq_interface_policy": _policy,
    "dnsmasq_interfaces": _or_none(_interfaces),
    "dnsmasq_foreign_interfaces": _interfaces,
    "canary_nodes": _count(1, 100_000),
    "wave_nodes": _wave,
    "last_nodes": _names,
    "undo_after": _count(30, 3600),
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
