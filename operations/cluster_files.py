"""The objects that dnsmend keeps in the cluster, rendered for what its API server takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, get_args

import yaml

from operations.guard_files import table
from operations.scripts import TEMPLATES
from probes.carry import carry
from probes.guard import Asked

#: What can be had: the probe of each minute, CoreDNS's disruption budget, its pods apart from each other, what it may
#: reach (with Cilium, or without), and the node condition by node-problem-detector.
Object = Literal["probe", "budget", "spread", "cilium-policy", "network-policy", "node-condition"]
OBJECTS: tuple[Object, ...] = get_args(Object)
#: How CoreDNS's pods are kept apart.
Spread = Literal["topology", "anti-affinity"]

#: Every object of ours has this label, and nothing without it is changed or deleted.
OURS = "app.kubernetes.io/managed-by=dnsmend"
#: The kinds of our objects, as kubectl names them. Cilium's is asked for where the API server has it.
KINDS = ("configmaps", "cronjobs.batch", "poddisruptionbudgets.policy", "networkpolicies.networking.k8s.io")
CILIUM_KIND = "ciliumnetworkpolicies.cilium.io"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Served:
    """What the API server takes: the versions of CronJob and PodDisruptionBudget, and whether it has Cilium's kind."""

    cronjob: str = "batch/v1"
    budget: str = "policy/v1"
    cilium: bool = False


@dataclass(frozen=True)
class Reached:
    """What CoreDNS may reach: the nodes' VIPs, and the API server's addresses with their ports."""

    vips: tuple[str, ...]
    servers: tuple[tuple[str, int], ...] = ()


def objects(
    wanted: Sequence[Object],
    namespace: str,
    served: Served,
    reached: Reached,
    image: str | None,
    asked: Sequence[Asked],
    metrics: str,
) -> list[Manifest]:
    """The wanted objects, "spread" aside, which is a patch of somebody else's.

    + asked: what the probe's pod asks
    + metrics: the folder in which the guards leave their metrics on a node
    """
    names: dict[str, Any] = {
        "namespace": namespace,
        "cronjob": served.cronjob,
        "budget": served.budget,
        "vips": [_network(vip) for vip in reached.vips],
        "servers": [{"cidr": _network(address), "port": port} for address, port in reached.servers],
        "metrics": metrics,
    }
    if "probe" in wanted:
        names |= {
            "image": image,
            "questions": carry([each.probe for each in asked]) + "\n",
            "table": table({"host": asked}),
            "judge": _text("guards/judge.awk", {}),
        }
    if "node-condition" in wanted:
        names |= {
            "monitor": json.dumps(_monitor(), indent=2) + "\n",
            "check": _text("cluster/node-condition.sh.j2", names),
        }
    found: list[Manifest] = []
    for name in OBJECTS:
        if name in wanted and name != "spread":
            found += [each for each in yaml.safe_load_all(_text(f"cluster/{name}.yaml.j2", names)) if each]
    return found


def spread(how: Spread | None, was: str | None) -> Manifest:
    """The strategic merge patch for CoreDNS's Deployment; None for `how` takes back what `was` done."""
    patch: Manifest = yaml.safe_load(_text("cluster/spread.yaml.j2", {"how": how, "was": was}))
    if patch["spec"]["template"]["spec"] is None:
        del patch["spec"]
    return patch


def _text(template: str, names: Mapping[str, Any]) -> str:
    return TEMPLATES.get_template(template).render(**names)


def _network(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"


def _monitor() -> Manifest:
    """A custom plugin monitor (docs/custom_plugin_monitor.md of kubernetes/node-problem-detector)."""
    condition, reason = "ClusterDNSProblem", "ClusterDNSLost"
    return {
        "plugin": "custom",
        "pluginConfig": {"invoke_interval": "60s", "timeout": "10s", "max_output_length": 80, "concurrency": 1},
        "source": "dnsmend-guard",
        "metricsReporting": True,
        "conditions": [
            {"type": condition, "reason": "ClusterDNSIsAnswered", "message": "the guard of this node is answered"}
        ],
        "rules": [
            {"type": "permanent", "condition": condition, "reason": reason, "path": "/config/dnsmend/check.sh"},
        ],
    }
