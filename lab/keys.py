"""SSH keys of the lab: one for the person, one per node, and the known_hosts file that makes them strict."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lab import files, host, plan
from lab.plan import NodePlan

# uid and gid of the first user that useradd(8) makes on Debian.
_USER_ID = 1000


def directory() -> Path:
    """Where the keys are."""
    return host.state_dir() / "ssh"


def client_key() -> Path:
    """The person's private key."""
    return directory() / "id_ed25519"


def known_hosts() -> Path:
    """The known_hosts file with every node's key, by name and by address."""
    return directory() / "known_hosts"


def config() -> Path:
    """The ssh_config(5) that reaches every node by name."""
    return directory() / "config"


def make(nodes: Iterable[NodePlan]) -> None:
    """Make all keys, `known_hosts` and `config`."""
    nodes = tuple(nodes)
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    _generate(client_key(), "lab")
    known = []
    for node in nodes:
        _generate(_host_key(node), node.name)
        kind, key, _ = _public(_host_key(node)).split()
        known.append(f"{node.name},{node.management} {kind} {key}")
    known_hosts().write_text("\n".join(known) + "\n")
    stanzas = [f"Host {node.name}\n    HostName {node.management}" for node in nodes]
    common = [
        "Host *",
        f"    User {plan.SSH_USER}",
        f"    IdentityFile {client_key()}",
        "    IdentitiesOnly yes",
        f"    UserKnownHostsFile {known_hosts()}",
        "    GlobalKnownHostsFile none",
        "    StrictHostKeyChecking yes",
        "    LogLevel ERROR",
    ]
    config().write_text("\n".join([*stanzas, *common]) + "\n")


def install(node: NodePlan, upper: Path) -> None:
    """Put the node's host key and the person's public key into the node's overlay."""
    for suffix, mode in (("", 0o600), (".pub", 0o644)):
        text = _host_key(node).with_name(_host_key(node).name + suffix).read_text()
        files.write(upper, Path("etc/ssh", f"ssh_host_ed25519_key{suffix}"), text, mode)
    home = Path("home", plan.SSH_USER)
    files.write(upper, home / ".ssh" / "authorized_keys", _public(client_key()), 0o600)
    for path in (upper / home, upper / home / ".ssh", upper / home / ".ssh/authorized_keys"):
        os.chown(path, _USER_ID, _USER_ID)
    (upper / home / ".ssh").chmod(0o700)


def _host_key(node: NodePlan) -> Path:
    return directory() / f"host_{node.name}"


def _public(key: Path) -> str:
    return key.with_name(key.name + ".pub").read_text()


def _generate(file: Path, comment: str) -> None:
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)])
