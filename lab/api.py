"""The lab for programs and tests: find it, run things on its nodes and pods, inject faults and heal them.

lab = Lab.attach()
lab.node("node-0").run(["systemctl", "is-active", "dnsmasq"])
lab.node("node-0").pod("client").ask("172.25.4.1", "www.example.com", tcp=True)
lab.inject("dnsmasq-except-cilium", "node-0", mode="bind-dynamic")
lab.heal("node-0")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import faults, healing, keys, places, plan, state
from lab.host import LabError
from lab.places import Node, Place
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

    def inject(self, fault: str, node: str = "node-0", *, mode: str | None = None) -> str:
        """Inject a fault on a node and see that it is live; returns what was seen. Raises LabError if it is not."""
        place = self.node(node)
        chosen, binding = faults.choose(fault, mode)
        # Recorded first: a fault that is not live still has to be healed.
        self.record.faults.setdefault(node, []).append(fault)
        self.record.save()
        return f"{node}: {fault} is live: {chosen.apply(place, binding)}"

    def heal(self, node: str | None = None) -> None:
        """Bring one node, or all, back to the state after `up`. Raises LabError if it does not work then."""
        for each in self.nodes if node is None else (self.node(node),):
            healing.heal(each, Path(self.record.root))
            self.record.faults.pop(each.name, None)
            self.record.save()
