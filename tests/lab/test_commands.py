"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lab.api import Lab
from lab.faults import FAULTS

pytestmark = pytest.mark.lab


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_status_for_programs(lab: Lab) -> None:
    done = command("status", "--json")
    assert done.returncode == 0
    assert [node["vip"] for node in json.loads(done.stdout)["nodes"]] == [node.plan.vip for node in lab.nodes]


def test_people_read_stderr(lab: Lab) -> None:
    for words in (["list"], ["status"], ["up", "--nodes", str(lab.record.nodes)]):
        done = command(*words)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr
    assert all(name in command("list").stderr for name in FAULTS)


def test_commands_on_nodes_keep_their_exit_code(lab: Lab) -> None:
    assert command("ssh", "node-0", "--", "exit 7").returncode == 7
    assert command("ssh", "node-1", "hostname").stdout == "node-1\n"
    assert command("exec", "node-0", "--", "sh", "-c", "exit 8").returncode == 8
    assert "172.26.2.145" in command("exec", "--pod", "client", "node-0", "--", "ip", "address").stdout
    assert "172.25.4.9/24" in command("exec", "bare-metal", "ip", "address").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exec", "node-99", "--", "true"], "no node 'node-99'"),
        (["exec", "node-0", "--pod", "client", "--", "true"], "--pod NAME comes before the node"),
        (["inject", "dnsmasq-except-cilium", "--mode", "bind-interfaces"], "does not look at the ingress interface"),
        (["up", "--nodes", "2"], "3 to 50"),
    ],
)
def test_refusals_are_one_sentence(lab: Lab, words: list[str], said: str) -> None:
    done = command(*words)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
