"""The nodes that are measured, reached the same way by every contender: directly, or through the delaying proxies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import keys, plan

#: Names the file that `bench/inventory.py` reads.
VARIABLE = "DNSMEND_BENCH"


@dataclass(frozen=True)
class Fleet:
    """
    Nodes of the lab that is up, and the files that lead to them.

    + names: the nodes; ports: of the proxy on this machine that leads to each, none where they are reached directly
    + folder: holds `nodes.json`, `ssh_config`, `known_hosts` and `hosts.json` (Ansible's inventory)
    """

    names: tuple[str, ...]
    ports: Mapping[str, int]
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a contender's environment has besides its own."""
        return {VARIABLE: str(self.folder / "nodes.json")}

    def address(self, name: str) -> tuple[str, int]:
        """Where the node's sshd is reached."""
        index = int(name.rpartition("-")[2])
        return ("127.0.0.1", self.ports[name]) if self.ports else (plan.NodePlan(index).management, 22)


def make(names: tuple[str, ...], ports: Mapping[str, int], folder: Path) -> Fleet:
    """Write the files that lead to these nodes of the lab that is up."""
    fleet = Fleet(names, ports, folder)
    folder.mkdir(parents=True, exist_ok=True)
    key, known = keys.client_key(), folder / "known_hosts"
    addresses = {name: fleet.address(name) for name in names}
    known.write_text("".join(f"{_as_known(*addresses[name])} {kind_and_key}\n" for name, kind_and_key in _keys(names)))
    access = {"ssh_user": plan.SSH_USER, "ssh_key": str(key), "ssh_known_hosts_file": str(known)}
    nodes = [
        (
            name,
            {
                "ssh_hostname": host,
                "ssh_port": port,
                **access,
                "ssh_strict_host_key_checking": "yes",
                "_sudo": True,
            },
        )
        for name, (host, port) in addresses.items()
    ]
    (folder / "nodes.json").write_text(json.dumps(nodes))
    stanzas = [f"Host {name}\n    HostName {host}\n    Port {port}" for name, (host, port) in addresses.items()]
    common = [
        "Host *",
        f"    User {plan.SSH_USER}",
        f"    IdentityFile {key}",
        "    IdentitiesOnly yes",
        f"    UserKnownHostsFile {known}",
        "    GlobalKnownHostsFile none",
        "    StrictHostKeyChecking yes",
        "    LogLevel ERROR",
    ]
    (folder / "ssh_config").write_text("\n".join([*stanzas, *common]) + "\n")
    hosts = {name: {"ansible_host": host, "ansible_port": port} for name, (host, port) in addresses.items()}
    shared = {
        "ansible_user": plan.SSH_USER,
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
        # Without it Ansible asks each node which Python it has.
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    (folder / "hosts.json").write_text(json.dumps({"nodes": {"hosts": hosts, "vars": shared}}))
    return fleet


def _keys(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Name, and type and key as known_hosts has them, of each node."""
    lines = keys.known_hosts().read_text().splitlines()
    found = {line.partition(",")[0]: line.partition(" ")[2] for line in lines}
    return [(name, found[name]) for name in names]


def _as_known(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"
