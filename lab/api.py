"""The lab for programs and tests: find it, run things on its nodes and pods, inject faults and heal them.

lab = Lab.attach()
lab.node("node-0").run(["systemctl", "is-active", "dnsmasq"])
lab.node("node-0").pod("client").ask("172.25.4.1", "www.example.com", tcp=True)
lab.inject("dnsmasq-except-cilium", "node-0", mode="bind-dynamic")
lab.heal("node-0")
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import faults, healing, keys, places, plan, reboot, state
from lab.host import LabError
from lab.kubernetes import nodes as cluster
from lab.kubernetes.cluster import kubectl
from lab.places import Node, Place
from lab.plan import Pod
from lab.state import State


@dataclass(frozen=True)
class Lab:
    """A running lab."""

    record: State

    @classmethod
    def attach(cls) -> Lab:
        """The lab that is up. Raises LabError if there is none, or a part of it has died."""
        record = state.load()
        if record is None or not record.ready:
            raise LabError("the lab is not up: run `python -m lab up`")
        for name, machine in record.machines.items():
            if not machine.alive():
                raise LabError(f"{name} has died: run `python -m lab up` to build the lab again")
        return cls(record)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, node-0 first."""
        return tuple(places.node(self.record, each) for each in plan.plan_nodes(self.record.nodes))

    def node(self, name: str) -> Node:
        """The node called `name`. Raises LabError."""
        for each in self.nodes:
            if each.name == name:
                return each
        raise LabError(f"no node {name!r} in this lab; it has {', '.join(each.name for each in self.nodes)}")

    @property
    def bare_metal(self) -> Place:
        """The client on the LAN that is no node."""
        return places.bare_metal(self.record)

    @property
    def ssh_config(self) -> Path:
        """An ssh_config(5) for `ssh -F`, which knows every node by name."""
        return keys.config()

    def kubectl(
        self, arguments: Sequence[str], *, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the cluster's administrator. Raises LabError if it fails and `check` is set."""
        self._require_cluster()
        return kubectl(Path(self.record.programs), arguments, stdin=stdin, check=check)

    def move_coredns_pod(self, source: str, target: str) -> Pod:
        """Move the pod in CoreDNS's role from one node to another; returns the new one. Raises LabError."""
        self._require_cluster()
        return cluster.move_resolver(self.record, source, target)

    def inject(self, fault: str, node: str = "node-0", *, mode: str | None = None) -> str:
        """Inject a fault on a node and see that it is live; returns what was seen. Raises LabError if it is not."""
        place = self.node(node)
        if fault in faults.CLUSTER_FAULTS:
            self._require_cluster()
            if mode is not None:
                raise LabError(f"{fault} does not depend on how dnsmasq binds: leave the mode out")
            self._record_faults(node, [*self.record.faults.get(node, []), fault])
            return f"{node}: {fault} is live: {faults.CLUSTER_FAULTS[fault].apply(self.record, place)}"
        chosen, binding = faults.choose(fault, mode)
        # Recorded first: a fault that is not live still has to be healed.
        self._record_faults(node, [*self.record.faults.get(node, []), fault])
        return f"{node}: {fault} is live: {chosen.apply(place, binding)}"

    def reboot(self, node: str) -> Node:
        """Cut a container's power and start it again; returns when its units run. Raises LabError."""
        return reboot.reboot(self.record, self.node(node).name)

    def heal(self, node: str | None = None) -> None:
        """Bring one node, or all, back to the state after `up`. Raises LabError if it does not work then."""
        chosen = self.nodes if node is None else (self.node(node),)
        if self.record.programs:
            cluster.heal(self.record, [each.name for each in chosen])
        for each in chosen:
            if not self.record.programs:
                healing.heal(each, Path(self.record.root))
            self._record_faults(each.name, [])

    def _require_cluster(self) -> None:
        if not self.record.programs:
            raise LabError("this lab has no Kubernetes: `python -m lab down`, then `up --kubernetes`")

    def _record_faults(self, node: str, names: list[str]) -> None:
        current = state.load()
        if current is None or current.machines != self.record.machines:
            raise LabError("the lab has been taken down or built again since: attach to it anew")
        self.record.faults[node] = names
        self.record.save()
