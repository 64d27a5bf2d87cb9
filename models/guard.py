"""What a guard holds a node's iptables against: the backend and the selections, as they are when it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from facts.netfilter import Backend
from facts.snapshot import Snapshot
from models.refused import Refused
from models.stale_rules import other, stale

#: What starts kube-proxy or the kubelet, in the distributions that there are: a guard at boot comes before all of them.
KUBERNETES_UNITS = (
    "kubelet.service",
    "kube-proxy.service",
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "snap.kubelet.daemon.service",
    "snap.kube-proxy.daemon.service",
    "snap.microk8s.daemon-kubelite.service",
)


@dataclass(frozen=True)
class Selected:
    """One group of alternatives: what it points to, and whether a person chose that."""

    name: str
    value: str
    status: Literal["auto", "manual"]


@dataclass(frozen=True)
class Record:
    """A node's iptables, all of one backend, and nothing of Kubernetes in the other one."""

    backend: Backend
    commands: tuple[str, ...]
    groups: tuple[Selected, ...]

    @property
    def other(self) -> Backend:
        """The backend that must stay empty of Kubernetes."""
        return other(self.backend)


def record(read: Snapshot, wanted: Backend | None) -> Record | None:
    """What is to be kept on this node, None where it has no iptables.

    + wanted: the backend that the policy names; None for what the node has

    Raises Refused where the node is not in a state worth keeping: it has to be repaired first.
    """
    for what in ("alternatives", "rulesets"):
        reading = read[what]
        if reading["state"] not in ("value", "empty", "tool missing"):
            raise Refused(f"its {what} are not known: {reading['state']}: {reading['detail']}")
    found = read["alternatives"]["value"]
    if found is None or not found["commands"]:
        return None
    backends = {command["name"]: command["backend"] for command in found["commands"]}
    said = ", ".join(f"{name} is {backend or 'of an unknown backend'}" for name, backend in backends.items())
    first = next(iter(backends.values()))
    if not first or len(set(backends.values())) > 1:
        raise Refused(f"{said}: there is no one backend to guard (deploys/fix_dns.py with iptables_backend)")
    if wanted and first != wanted:
        raise Refused(f"{said}, and the policy wants {wanted}: deploys/fix_dns.py comes first")
    if left := stale(read["rulesets"]["value"], other(first)):
        raise Refused(f"{left[0]} are stale (the node's iptables is {first}): deploys/fix_dns.py comes first")
    groups = tuple(
        Selected(group["name"], group["value"], group["status"])
        for group in found["groups"]
        if group["name"] in backends and group["value"]
    )
    return Record(first, tuple(backends), groups)


def kubernetes_units(read: Snapshot) -> list[str]:
    """Those of `KUBERNETES_UNITS` that this node has."""
    loaded = {unit["unit"] for unit in read["units"]["value"]}
    return [name for name in KUBERNETES_UNITS if name in loaded]
