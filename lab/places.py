"""Where commands can be run in a lab: nodes, pods and the bare-metal client.

Nothing here uses ssh: root of the machine enters the namespaces, so the lab does not depend on what is being tested.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import host, network
from lab.host import LabError
from lab.plan import BARE_METAL, NodePlan
from lab.questions import Answer, ask_from
from lab.state import Process, State
from lab.vm import disk, guest

# Before the name of a tool on a virtual machine: the lab's copy of it, whatever has become of the node's.
_OWN_TOOLS = ("env", f"PATH={disk.TOOLS}")


@dataclass(frozen=True)
class Place:
    """Somewhere in the lab: `entry` is the command prefix that leads there, `asking` the one that dig is run with.

    `leaders` are the processes whose namespaces these enter. A pid that has gone to another process could lead to the
    machine itself, so they are looked at before each use.
    """

    name: str
    address: str
    entry: tuple[str, ...]
    asking: tuple[str, ...]
    leaders: tuple[Process, ...]

    def require_alive(self) -> None:
        """Raise LabError if a process whose namespaces would be entered is gone."""
        if not all(leader.alive() for leader in self.leaders):
            raise LabError(f"{self.name} has died, or the lab was taken down")

    def run(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there as root. Raises LabError if it fails and `check` is set."""
        self.require_alive()
        return host.run([*self.entry, *argv], stdin=stdin, check=check, timeout=timeout)

    def ask(self, server: str, name: str = "www.example.com", *, tcp: bool = False, timeout: int = 1) -> Answer:
        """Ask `server` for the A records of `name` with one try of `timeout` seconds."""
        self.require_alive()
        return ask_from(self.asking, server, name, tcp=tcp, timeout=timeout)


@dataclass(frozen=True)
class Node(Place):
    """A booted node; `guest` if it is a virtual machine, and not a container."""

    plan: NodePlan
    guest: bool = False

    def pod(self, name: str) -> Place:
        """The pod `client` or `coredns` on this node: its network and its mounts. Raises KeyError, LabError."""
        pod = self.plan.pod(name)
        main = self.run(["systemctl", "show", "--property=MainPID", "--value", pod.unit]).stdout.strip()
        if main == "0":
            raise LabError(f"{pod.unit} on {self.name} has no process")
        entry = (*self.entry, "nsenter", f"--target={main}", "--net", "--mount")
        if self.guest:
            asking = (*self.entry, "nsenter", f"--net={pod.namespace}", *_OWN_TOOLS)
        else:
            leader, outside = self.leaders
            asking = _asking(outside, f"/proc/{leader.pid}/root{pod.namespace}")
        return Place(f"{self.name}/{name}", pod.address, entry, asking, self.leaders)

    @property
    def files(self) -> Path:
        """The root of a node that is a container, as this machine sees it. An absolute link in it leads elsewhere."""
        self.require_alive()
        return Path(f"/proc/{self.leaders[0].pid}/root")

    def read(self, path: str) -> str:
        """The text of a file on the node. Raises LabError."""
        return self.run(["cat", path]).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on the node, given by its absolute path there."""
        script = 'mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "sh", path, f"{mode:o}"], stdin=text)

    def remove(self, *paths: str) -> None:
        """Remove files from the node; one that is not there is fine."""
        self.run(["rm", "-f", "--", *paths])

    def active(self, unit: str) -> bool:
        """True if the systemd unit is active."""
        return self.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def node(record: State, plan: NodePlan) -> Node:
    """The booted node that `plan` describes. Raises LabError if it has not started."""
    leader, outside = _leader(record, plan.name), _leader(record, network.OUTSIDE)
    if record.guests:
        entry = guest.entry(plan.name)
        return Node(plan.name, plan.address, entry, (*entry, *_OWN_TOOLS), (leader, outside), plan, guest=True)
    entry, asking = _enter(leader, "--net"), _asking(outside, f"/proc/{leader.pid}/ns/net")
    return Node(plan.name, plan.address, entry, asking, (leader, outside), plan)


def bare_metal(record: State) -> Place:
    """The client on the LAN that is no node: its own network, the files of the machine `outside`."""
    outside, net = _leader(record, network.OUTSIDE), str(network.namespace(network.CLIENT))
    return Place("bare-metal", BARE_METAL, _enter(outside, f"--net={net}"), _asking(outside, net), (outside,))


def _leader(record: State, name: str) -> Process:
    machine = record.machines.get(name)
    if machine is None or machine.leader is None:
        raise LabError(f"{name} has not started")
    return machine.leader


def _enter(leader: Process, net: str) -> tuple[str, ...]:
    return (
        "nsenter",
        f"--target={leader.pid}",
        "--mount",
        "--uts",
        "--ipc",
        "--pid",
        "--cgroup",
        net,
        "--root",
        "--wd",
    )


def _asking(outside: Process, net: str) -> tuple[str, ...]:
    # The lab's own questions use the files of `outside`: a node whose tools are taken away can still be judged.
    return ("nsenter", f"--target={outside.pid}", "--mount", f"--net={net}", "--root", "--wd")
