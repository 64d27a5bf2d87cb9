"""Who answers on a node's address is the node: anything else ends the connection before a word is said to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import keys
from lab.api import Lab
from tests.conftest import Run

pytestmark = pytest.mark.lab

NODE, ADDRESS = "node-1", "198.18.53.11"


def connect(pyinfra: Run, known: Path, *data: str) -> subprocess.CompletedProcess[str]:
    given = [word for each in (f"ssh_known_hosts_file={known}", *data) for word in ("--data", each)]
    return pyinfra("-y", "--limit", NODE, *given, "inventory", "exec", "--", "true")


def lines(without: str = "") -> list[str]:
    every = keys.known_hosts().read_text().splitlines()
    return [line for line in every if not without or not line.startswith(f"{without},")]


def test_a_known_key_is_taken(lab: Lab, pyinfra: Run) -> None:
    done = connect(pyinfra, keys.known_hosts())
    assert done.returncode == 0, done.stderr


def test_an_unknown_key_ends_it(lab: Lab, pyinfra: Run, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("\n".join(lines(without=NODE)) + "\n")
    done = connect(pyinfra, known)
    assert done.returncode == 1
    assert f"[{NODE}] Could not connect (StrictPolicy: No host key for {ADDRESS} found in known_hosts)" in done.stderr
    assert known.read_text() == "\n".join(lines(without=NODE)) + "\n"


def test_a_changed_key_ends_it(lab: Lab, pyinfra: Run, tmp_path: Path) -> None:
    other = next(line.split(" ", 1)[1] for line in lines() if line.startswith("node-2,"))
    known = tmp_path / "known_hosts"
    known.write_text("\n".join([*lines(without=NODE), f"{NODE},{ADDRESS} {other}"]) + "\n")
    done = connect(pyinfra, known)
    assert done.returncode == 1
    assert f"[{NODE}] " in done.stderr and "host key" in done.stderr.lower(), done.stderr
    assert ADDRESS in done.stderr, done.stderr


@pytest.fixture
def old_server(healed: Lab, tmp_path: Path) -> Iterator[Path]:
    """A server on node-1 that signs with RSA and SHA-1 only, at port 2222; its known_hosts."""
    node = healed.node(NODE)
    node.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", "/run/old_key"])
    options = ["HostKeyAlgorithms=ssh-rsa", "PidFile=/run/old.pid", "HostKey=/run/old_key"]
    node.run(["/usr/sbin/sshd", "-p", "2222", *(word for each in options for word in ("-o", each))])
    kind, key, *_ = node.read("/run/old_key.pub").split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{ADDRESS}]:2222 {kind} {key}\n")
    yield known
    node.run(["sh", "-c", "kill $(cat /run/old.pid); rm -f /run/old_key /run/old_key.pub"])


def test_a_signature_with_sha1_ends_it(old_server: Path, pyinfra: Run) -> None:
    """CVE-2026-44405: paramiko 4 would take it, and the policy does not."""
    done = connect(pyinfra, old_server, "ssh_port=2222")
    assert done.returncode == 1
    assert "no acceptable host key" in done.stderr, done.stderr
    with_paramikos_own = connect(pyinfra, old_server, "ssh_port=2222", "ssh_paramiko_connect_kwargs={}")
    assert with_paramikos_own.returncode == 0, with_paramikos_own.stderr
