"""The load test on real nodes: what it finds, what it leaves alone, and what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploys.exits import Exit
from lab.api import Lab
from tests.conftest import Run
from tests.deploys.nodes import state

pytestmark = pytest.mark.lab

QUICK = ("--data", "blast_seconds=0.5", "--data", "blast_rates=[20, 200]")
COUNT = """
nft add table inet counted
nft add chain inet counted input '{ type filter hook input priority -400; }'
nft add rule inet counted input ip daddr VIP udp dport 53 counter
"""


def test_a_healthy_node_and_only_that_one(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    before = state(healed.node("node-0"))
    done = pyinfra("-y", "inventory", "deploys/blast.py", "--limit", "node-0", *QUICK, "--data", f"json={tmp_path}/b")
    assert done.returncode == Exit.WELL, done.stderr
    assert done.stdout == ""
    assert "host and pod lose alike in 2 of 2 comparisons" in done.stderr
    said = json.loads((tmp_path / "b").read_text())
    assert said["format"] == 1 and said["unknown"] == {}
    assert [one["rate"] for one in said["comparisons"]] == [20, 200]
    for one in said["comparisons"]:
        assert (one["node"], one["destination"], one["result"]) == ("node-0", "172.25.4.1", "equal")
        for side in ("host", "pod"):
            assert one[side]["sent"] == one[side]["received"] == one["rate"] * 0.5
            assert 0 < one[side]["latency"]["p50"] <= one[side]["latency"]["max"]
    assert state(healed.node("node-0")) == before


def test_the_incident_is_seen_at_the_first_rate_which_is_the_last(healed: Lab, pyinfra: Run) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0")
    done = pyinfra("-y", "inventory", "deploys/blast.py", "--limit", "node-0", *QUICK, "--data", "json=-")
    assert done.returncode == Exit.NOT_WELL
    assert "at 20/s: pod loses more: host 0.0%, pod 100.0% lost" in done.stderr
    assert "node-0: 172.25.4.1 is not asked any faster" in done.stderr
    (only,) = json.loads(done.stdout)["comparisons"]
    assert (only["host"]["ratio"], only["pod"]["ratio"], only["pod"]["outcomes"]) == (1.0, 0.0, {"timeout": 10})
    assert only["low"] > 0.5


def test_no_more_arrives_than_was_planned(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    node.run(["sh", "-ec", COUNT.replace("VIP", node.plan.vip)])
    try:
        done = pyinfra("-y", "inventory", "deploys/blast.py", "--limit", "node-0", *QUICK)
        rule = node.run(["nft", "--json", "list", "table", "inet", "counted"]).stdout
    finally:
        node.run(["nft", "delete", "table", "inet", "counted"])
    assert done.returncode == Exit.WELL, done.stderr
    (counter,) = [item["rule"]["expr"][-1]["counter"] for item in json.loads(rule)["nftables"] if "rule" in item]
    # The lab's own resolvers may ask meanwhile.
    assert 220 <= counter["packets"] <= 240


def test_without_python3_it_is_unknown(healed: Lab, pyinfra: Run) -> None:
    healed.inject("tool-missing-python3", "node-0")
    done = pyinfra("-y", "inventory", "deploys/blast.py", "--limit", "node-0", *QUICK)
    assert done.returncode == Exit.NOT_WELL
    assert "unknown: host: the node has no python3, and no dnsperf that can ask this" in done.stderr


def test_nothing_but_the_nodes_is_asked(healed: Lab, pyinfra: Run) -> None:
    done = pyinfra("-y", "inventory", "deploys/blast.py", *QUICK, "--data", 'dns_vips=["172.25.4.1", "8.8.8.8"]')
    assert done.returncode == Exit.NOT_WELL
    assert "dns_vips: no node of this run has 8.8.8.8: no load is put on it" in done.stderr
    assert "172.25.4.1 at" not in done.stderr


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("blast_rates=[100, 10]", "must be a list of up to 10 whole numbers from 1 to 5000, each higher"),
        ("blast_rates=[100000]", "must be a list of up to 10 whole numbers from 1 to 5000, each higher"),
        ("blast_seconds=60", "must be a number of seconds from 0.1 to 30"),
        ("json=", "must be a file to write, or - for standard output"),
    ],
)
def test_a_bad_value_is_named_and_nothing_is_asked(healed: Lab, pyinfra: Run, data: str, sentence: str) -> None:
    done = pyinfra("-y", "inventory", "deploys/blast.py", "--limit", "node-0", "--data", data)
    assert done.returncode == Exit.NOT_WELL
    assert sentence in done.stderr
    assert "at 1" not in done.stderr


def test_too_much_is_refused(healed: Lab, pyinfra: Run) -> None:
    done = pyinfra("-y", "inventory", "deploys/blast.py", "--limit", "node-0", "--data", "blast_seconds=10")
    assert done.returncode == Exit.NOT_WELL
    assert "node-0: nothing was asked: 80 s of asking are more than the 60 s" in done.stderr


def test_an_unreachable_node_is_unknown(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-1")
    node.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    try:
        done = pyinfra("-y", "inventory", "deploys/blast.py", *QUICK)
    finally:
        node.run(["systemctl", "start", "ssh.service"])
    assert done.returncode == Exit.NOT_WELL
    assert "node-1: unknown: the node could not be reached" in done.stderr
    assert "host and pod lose alike in 4 of 4 comparisons" in done.stderr
