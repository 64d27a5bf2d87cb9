"""The ssh_config of docs/production.md: a diagnosis of nodes that are reached through another one only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploys.exits import Exit
from lab import keys, plan
from lab.api import Lab
from tests.conftest import ROOT, Run

pytestmark = pytest.mark.lab

BASTION = "node-2"
CLOSED = "node-0"


@pytest.fixture
def config(healed: Lab, tmp_path: Path) -> Path:
    """As on the page, with the lab's addresses and key."""
    (text,) = re.findall(r"^```text\n(Host bastion\n.*?)^```", (ROOT / "docs/production.md").read_text(), re.M | re.S)
    changed = {
        "192.0.2.1\n": f"{healed.node(BASTION).plan.management}\n    UserKnownHostsFile {keys.known_hosts()}\n",
        "User jump": f"User {plan.SSH_USER}",
        "~/.ssh/jump_ed25519": str(keys.client_key()),
        "10.20.0.*": healed.node(CLOSED).plan.management,
    }
    for example, own in changed.items():
        assert example in text
        text = text.replace(example, own)
    (tmp_path / "config").write_text(text)
    return tmp_path / "config"


@pytest.fixture
def inventory(healed: Lab, config: Path, tmp_path: Path) -> str:
    access = {
        "ssh_hostname": healed.node(CLOSED).plan.management,
        "ssh_user": plan.SSH_USER,
        "ssh_key": str(keys.client_key()),
        "ssh_known_hosts_file": str(keys.known_hosts()),
        "ssh_config_file": str(config),
        # An answer that nobody gives looks like a connection that was cut off.
        "ssh_connect_retries": 0,
    }
    (tmp_path / "closed.py").write_text(f"nodes = [({CLOSED!r}, {access!r})]\n")
    return str(tmp_path / "closed.py")


def test_a_diagnosis_through_the_bastion(healed: Lab, inventory: str, pyinfra: Run) -> None:
    healed.inject("dnsmasq-local-service", CLOSED)
    done = pyinfra("-y", inventory, "deploys/diagnose.py")
    assert done.returncode == Exit.NOT_WELL, done.stderr
    assert "cause: DNSMASQ-001" in done.stderr
    asked = pyinfra("-y", inventory, "exec", "--data", "_sudo=false", "--", "echo from $SSH_CONNECTION")
    assert f"from {healed.node(BASTION).plan.management} " in asked.stderr


def test_a_bastion_whose_key_is_unknown(inventory: str, config: Path, tmp_path: Path, pyinfra: Run) -> None:
    (tmp_path / "known").write_text("")
    config.write_text(config.read_text().replace(str(keys.known_hosts()), str(tmp_path / "known")))
    refused = pyinfra("-y", inventory, "exec", "--", "true")
    assert refused.returncode == Exit.NOT_WELL and "StrictPolicy: No host key" in refused.stderr
    # What the page warns of.
    config.write_text(config.read_text().replace("    StrictHostKeyChecking yes\n", ""))
    asked = pyinfra("-y", inventory, "exec", "--", "true")
    assert asked.returncode == Exit.NOT_WELL and "EOF error" in asked.stderr
    assert (tmp_path / "known").read_text() == ""
