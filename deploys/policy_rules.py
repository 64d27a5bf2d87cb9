"""What each key of the policy may hold, and the sentence for a value that it may not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args

from models import upstreams
from models.interface_policy import POLICIES
from models.kube_services import Mode
from operations.alternatives import Target
from operations.cluster_files import OBJECTS, Spread
from operations.guard_files import Boot
from probes.blast import MOST_RATE

Rule = Callable[[Any], str]


def _count(low: int, high: int) -> Rule:
    def rule(value: Any) -> str:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if good else f"must be a whole number from {low} to {high}"

    return rule


def _names(value: Any) -> str:
    good = isinstance(value, list | tuple) and all(map(_text, value))
    return "" if good else "must be a list of names"


def _text(value: Any) -> bool:
    """Text that can be seen: it goes into commands and files."""
    return isinstance(value, str) and bool(value) and value.isprintable()


def _interfaces(value: Any) -> str:
    problem = _names(value)
    if problem or not any(set(name) & set(' ,"#\n') for name in value):
        return problem
    return "an interface's name holds no space, comma, quote or #"


def _addresses(value: Any) -> str:
    try:
        good = isinstance(value, list | tuple) and value and all(map(_text, value))
        # With a scope ("%eth0") it would be an address on one machine only.
        good = good and [ip_address(address) for address in value] and not any("%" in address for address in value)
    except ValueError:
        good = False
    return "" if good else "must be a list of IP addresses"


def _or_none(rule: Rule) -> Rule:
    def or_none(value: Any) -> str:
        problem = "" if value is None else rule(value)
        # pyinfra reads --data as JSON, where None is a text, and a good name for a folder or a program.
        if value == "None":
            must = "must be None (null with --data)"
            return problem.replace("must be ", f"{must} or ", 1) or must
        return problem.replace("must be ", "must be None or ", 1)

    return or_none


def _one_of(words: Sequence[str]) -> Rule:
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def _wave(value: Any) -> str:
    share = value[:-1] if isinstance(value, str) and value.endswith("%") else ""
    if re.fullmatch("[0-9]{1,3}", share) and 1 <= int(share) <= 100:
        return ""
    return "must be a whole number from 1, or a share from 1% to 100%" if _count(1, 100_000)(value) else ""


def _name(value: Any) -> str:
    good = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", value) and not value.startswith("-")
    return "" if good else "must be a domain name"


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
    try:
        good = _text(value) and not (Path(value).exists() and not Path(value).is_dir())
    except OSError:
        good = False
    return "" if good else "must be the path of a folder"


def _switch(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be True or False"


def _word(value: Any) -> str:
    # A leading "-" would be an option of kubectl.
    good = _text(value) and not value.startswith("-") and " " not in value
    return "" if good else "must be a name or a path without spaces"


def _objects(value: Any) -> str:
    good = isinstance(value, list | tuple) and all(each in OBJECTS for each in value)
    return "" if good else f"must be a list of {', '.join(OBJECTS)}"


def _absolute(value: Any) -> str:
    # The units name it without quotes.
    good = isinstance(value, str) and re.fullmatch(r"(/[\w.@+-]+)+", value) and ".." not in value
    return "" if good else "must be the absolute path of a folder, of letters, digits and . _ @ + -"


def _settings(value: Any) -> str:
    good = isinstance(value, dict) and all(_text(word) for pair in value.items() for word in pair)
    if good and all(re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", name) for name in value):
        return ""
    return "must be a value for each name of a kernel setting, both in quotes: {'net.ipv4.ip_forward': '1'}"


#: What each key may hold: "" for a good value, else what it must be.
RULES: dict[str, Rule] = {
    "node_deadline": _count(5, 600),
    "dns_vips": _or_none(_addresses),
    "dns_services": _or_none(_addresses),
    "probe_name": _name,
    "probe_names": _names_by_domain,
    "service_name": _name,
    "probe_tries": _count(1, 200),
    "probe_deadline": _seconds,
    "probe_pods": _count(1, 20),
    "probe_rate": _count(10, 10_000),
    "probe_smallest_loss": _share,
    "capture": _or_none(_folder),
    "verify_soak": _count(0, 3600),
    "iptables_backend": _or_none(_one_of(get_args(Target))),
    "conntrack_max": _or_none(_count(1024, 16_777_216)),
    "dnsmasq_interface_policy": _one_of(POLICIES),
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
    "guard_boot": _one_of(get_args(Boot)),
    "guard_metrics": _absolute,
    "cluster_objects": _objects,
    "dns_probe_image": _or_none(_word),
    "coredns_spread": _one_of(get_args(Spread)),
    "new_nodes": _names,
    "kube_proxy_mode": _or_none(_one_of(tuple(filter(None, get_args(Mode))))),
    "kernel_settings": _settings,
    "blast_rates": _rates,
    "blast_seconds": _seconds,
    "blast_name": _or_none(_name),
}
