"""One exec per node, no trace, and a section of its own for everything that goes wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path

import paramiko
import pytest
from pyinfra.api.host import Host

from facts import snapshot
from lab.api import Lab
from tests.conftest import Run
from tests.deploys.nodes import state

pytestmark = pytest.mark.lab

#: What the sections say on a node without Kubernetes, in a container that may not read the machine's kernel log.
STATES = dict.fromkeys(snapshot.FACTS, "value") | {
    "kernel_log": "not permitted",
    "coredns": "empty",
    "kube_proxy": "empty",
    "nft_tables": "empty",
    "nft_hooks": "empty",
    "neighbours": "empty",
    "networkd": "empty",
    "image_iptables": "empty",
    "conntrack": "value" if Path("/proc/sys/net/netfilter/nf_conntrack_count").exists() else "empty",
    "dns_flows": "empty",
}


def states(read: snapshot.Snapshot) -> dict[str, str]:
    # Tracked flows are there or not, as tests before this one have asked.
    found = {name: read[name]["state"] for name in snapshot.FACTS}  # type: ignore[literal-required]
    return found | ({"dns_flows": "empty"} if found["dns_flows"] == "value" else {})


@pytest.fixture
def execs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that go over SSH."""
    seen: list[str] = []
    real = paramiko.SSHClient.exec_command

    def counted(self: paramiko.SSHClient, command: str, *args: object, **kwargs: object) -> object:
        seen.append(command)
        return real(self, command, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(paramiko.SSHClient, "exec_command", counted)
    return seen


def test_a_snapshot_is_one_exec_per_node(healed: Lab, reached_all: list[Host], execs: list[str]) -> None:
    fleet = snapshot.fleet(reached_all)
    assert len(execs) == len(reached_all) == 3
    assert max(map(len, execs)) < 100_000
    for read in fleet.values():
        assert read is not None
        assert states(read) == STATES
    assert snapshot.fleet(reached_all) == fleet
    assert len(execs) == 3
    snapshot.forget(reached_all[0])
    snapshot.fleet(reached_all)
    assert len(execs) == 4


def test_a_snapshot_leaves_no_trace(healed: Lab, reached: Host) -> None:
    before = state(healed.node("node-0"))
    assert snapshot.of(reached) is not None
    assert state(healed.node("node-0")) == before


def test_a_missing_tool_costs_its_own_section(healed: Lab, reached: Host) -> None:
    healed.inject("tool-missing-ss", "node-0")
    read = snapshot.of(reached)
    assert read is not None
    assert read["sockets"]["state"] == "tool missing"
    assert read["sockets"]["value"] == []
    assert states(read) == STATES | {"sockets": "tool missing"}


def test_a_hanging_command_costs_its_own_section_and_its_own_time(healed: Lab, reached: Host) -> None:
    healed.inject("tool-hanging-ss", "node-0")
    began = time.monotonic()
    read = snapshot.of(reached)
    took = time.monotonic() - began
    assert read is not None
    assert read["sockets"]["state"] == "timed out"
    assert read["dnsmasq"]["state"] == "value"
    limit = snapshot.FACTS["sockets"].limit
    assert limit <= took < limit + 20
    assert healed.node("node-0").run(["pgrep", "-x", "ss"], check=False).stdout == ""


def test_without_the_sockets_nothing_is_guessed(healed: Lab, pyinfra: Run) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0")
    healed.inject("tool-missing-ss", "node-0")
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 1
    assert "node-0: its sockets are not known: tool missing" in done.stderr
    diagnosed = pyinfra("-y", "inventory", "deploys/diagnose.py")
    assert diagnosed.returncode == 1
    assert "UNKNOWN node-0 DNSMASQ-001" in diagnosed.stderr


@pytest.mark.parametrize(
    "name", ["facts.dnsmasq.DnsmasqInstances", "facts.sockets.ListeningSockets", "facts.pods.Pods"]
)
def test_a_fact_works_alone(healed: Lab, pyinfra: Run, name: str) -> None:
    done = pyinfra("inventory", "fact", name, "--json")
    assert done.returncode == 0
    said = json.loads(done.stdout)[name]
    assert {reading["state"] for reading in said.values()} == {"value"}
    assert sorted(said) == ["node-0", "node-1", "node-2"]


def test_without_root_a_fact_says_so(healed: Lab, pyinfra: Run) -> None:
    done = pyinfra("inventory", "--data", "_sudo=false", "fact", "facts.dnsmasq.DnsmasqInstances", "--json")
    said = json.loads(done.stdout)["facts.dnsmasq.DnsmasqInstances"]
    assert {reading["state"] for reading in said.values()} == {"not permitted"}
