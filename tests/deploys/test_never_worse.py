"""Dry runs, refusals, rollbacks and the way back: what must not change does not change."""

from __future__ import annotations

import json
import re
import time

import pytest
from pyinfra.api.host import Host

from lab.api import Lab
from lab.places import Node
from operations import dnsmasq
from tests.conftest import ROOT, Run
from tests.deploys.nodes import dnsmasq_start, planned_change, served, state

pytestmark = pytest.mark.lab


def files(node: Node) -> str:
    return node.run(["sh", "-c", "find /etc -xdev -type f -exec sha256sum {} + | sort"]).stdout


def kept_runs(node: Node) -> list[str]:
    return node.run(["sh", "-c", "ls /var/lib/dnsmend 2>/dev/null; true"]).stdout.split()


def test_a_dry_run_shows_the_edit_and_changes_nothing(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    before = {each.name: state(each) for each in healed.nodes}
    done = pyinfra("inventory", "deploys/fix_dns.py", "--dry", "--diff")
    assert done.returncode == 0, done.stderr
    assert "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)" in done.stderr
    assert re.search(r"-except-interface=cilium_\*\n +\+#dnsmend: except-interface=cilium_\*\n", done.stderr)
    assert re.search(r"\+\+\+ /etc/dnsmasq.d/dnsmend.conf\n(.*\n)+? +\+except-interface=lo\n", done.stderr)
    assert len(before["node-0"]) > 1000
    for each in healed.nodes:
        assert state(each) == before[each.name]


def test_looking_changes_nothing(healed: Lab, pyinfra: Run) -> None:
    before = {each.name: state(each) for each in healed.nodes}
    assert pyinfra("-y", "inventory", "deploys/diagnose.py").returncode == 0
    assert pyinfra("-y", "inventory", "deploys/verify.py").returncode == 0
    for each in healed.nodes:
        assert state(each) == before[each.name]


def test_without_root_nothing_is_done(healed: Lab, pyinfra: Run) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0")
    before = {each.name: (files(each), dnsmasq_start(each)) for each in healed.nodes}
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y", "--data", "_sudo=false")
    assert done.returncode == 1
    assert "stopped before any change:" in done.stderr
    assert re.search(r"node-0: \w+ could not be read: not permitted: only root", done.stderr)
    for each in healed.nodes:
        assert (files(each), dnsmasq_start(each), kept_runs(each)) == (*before[each.name], [])


def test_a_node_that_is_not_proven_is_taken_back_and_stops_the_run(healed: Lab, pyinfra: Run) -> None:
    broken, later = healed.node("node-0"), healed.node("node-1")
    healed.inject("dnsmasq-cannot-verify", broken.name)
    healed.inject("dnsmasq-except-cilium", later.name)
    before, started = (files(broken), files(later)), dnsmasq_start(later)
    answered = served(broken)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 1
    assert re.search(r"\[node-0\] not proven: pod 172.26.2.\d+ -> 172.25.4.1:53 \w+ version.bind CH TXT", done.stderr)
    assert (files(broken), files(later)) == before
    assert served(broken) == answered
    assert answered["node-0 udp"] and answered["node-0 tcp"]
    assert dnsmasq_start(later) == started
    assert kept_runs(later) == []
    (run,) = kept_runs(broken)
    journal = broken.run(["cat", f"/var/lib/dnsmend/{run}/dnsmasq/journal"]).stdout
    assert "undone: not proven" in journal
    assert broken.run(["systemctl", "list-timers", "--all"]).stdout.count("dnsmend") == 0


def test_a_dnsmasq_that_does_not_start_with_the_new_files_gets_its_old_ones(healed: Lab, pyinfra: Run) -> None:
    """The restart fails for a reason that no model knows: the unit's own ExecStartPre refuses."""
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    node.run(["mkdir", "-p", "/run/systemd/system/dnsmasq.service.d"])
    node.write(
        "/run/systemd/system/dnsmasq.service.d/refuse.conf",
        "[Service]\nExecStartPre=/bin/sh -c '! test -e /etc/dnsmasq.d/dnsmend.conf'\n",
    )
    node.run(["systemctl", "daemon-reload"])
    try:
        before = files(node)
        done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
        assert done.returncode == 1
        assert "did not start" in done.stderr and "everything is as it was" in done.stderr
        assert files(node) == before
        assert node.active("dnsmasq")
        assert served(node)["node-0 udp"]
    finally:
        node.run(["rm", "-r", "/run/systemd/system/dnsmasq.service.d"])
        node.run(["systemctl", "daemon-reload"])


@pytest.mark.parametrize("command", [["--dry"], ["-y"]])
def test_an_unparsable_file_is_named_and_nothing_is_changed(healed: Lab, pyinfra: Run, command: list[str]) -> None:
    healed.inject("dnsmasq-except-cilium", "node-1")
    healed.inject("dnsmasq-unparsable", "node-0")
    before = {each.name: state(each) for each in healed.nodes}
    done = pyinfra("inventory", "deploys/fix_dns.py", *command)
    assert done.returncode == 1
    assert re.search(r"node-0: .* at line \d+ of /etc/dnsmasq.d/30-zones.conf", done.stderr)
    assert "Nothing was changed on any node" in done.stderr
    for each in healed.nodes:
        assert state(each) == before[each.name]


@pytest.mark.parametrize("command", ["--dry", "-y"])
def test_a_timer_that_would_go_off_before_the_proof_is_refused(healed: Lab, pyinfra: Run, command: str) -> None:
    """200 questions of a kind, ten a second, take minutes, and the change would go back after 30 s."""
    healed.inject("dnsmasq-except-cilium", "node-0")
    before = {each.name: state(each) for each in healed.nodes}
    slow = ("undo_after=30", "probe_tries=200", "probe_rate=10")
    data = [word for value in slow for word in ("--data", value)]
    done = pyinfra("inventory", "deploys/fix_dns.py", command, *data)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "stopped before any change: Wave 1 of 1: of its 1 nodes, 1 at once, some would wait about" in said
    assert "after 30 s (undo_after)" in said and "wave_nodes" in said and "--parallel" in said
    assert "Nothing was changed on any node." in said
    for each in healed.nodes:
        assert state(each) == before[each.name]


def test_nodes_that_need_nothing_are_asked_when_the_change_is_proven(healed: Lab, pyinfra: Run) -> None:
    healed.inject("dnsmasq-except-cilium", "node-1")
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 0, done.stderr
    proof = "Starting operation: {}: prove it from the pods"
    first, others = done.stderr.split(proof.format("Wave 1 of 1"))[1].split(proof.format("The other nodes"))
    assert "[node-1] Success" in first and "[node-0] Skipped" in first and "[node-2] Skipped" in first
    assert "[node-0] No changes" in others and "[node-2] No changes" in others
    (run,) = kept_runs(healed.node("node-1"))
    events = [json.loads(line) for line in (ROOT / "runs" / f"{run}.jsonl").read_text().splitlines()]
    told = [(each["event"], each["node"]) for each in events]
    assert told.index(("confirmed", "node-1")) < min(told.index(("asked", "node-0")), told.index(("asked", "node-2")))


@pytest.mark.parametrize("other", ["second-dnsmasq-libvirt", "second-dnsmasq-networkmanager"])
def test_only_the_dnsmasq_that_owns_the_vip_is_touched(healed: Lab, pyinfra: Run, other: str) -> None:
    node = healed.node("node-0")
    healed.inject(other, node.name)
    healed.inject("dnsmasq-except-cilium", node.name)

    def others() -> list[str]:
        own = re.search(r"MainPID=(\d+)", dnsmasq_start(node))
        assert own
        lines = node.run(["ps", "-C", "dnsmasq", "-o", "pid=,lstart=,args="]).stdout.splitlines()
        return [line for line in lines if line.split()[0] != own[1]]

    running = others()
    assert running
    before = files(node)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y")
    assert done.returncode == 0, done.stderr
    assert all(served(node).values())
    assert others() == running
    changed = {line.split()[1] for line in set(before.splitlines()) ^ set(files(node).splitlines())}
    assert changed == {"/etc/dnsmasq.d/k8s.conf", "/etc/dnsmasq.d/dnsmend.conf"}


def test_undo_brings_back_every_byte(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    assert pyinfra("inventory", "deploys/fix_dns.py", "-y").returncode == 0
    assert all(served(node).values())
    (run,) = kept_runs(node)
    assert (ROOT / "runs" / f"{run}.jsonl").is_file()

    planned = pyinfra("inventory", "deploys/undo.py", "--dry", "--data", f"run={run}")
    assert "(node-0)" in planned.stderr and all(served(node).values())
    done = pyinfra("-y", "inventory", "deploys/undo.py", "--data", f"run={run}")
    assert done.returncode == 0, done.stderr
    assert files(node) == before
    assert not all(served(node).values())
    again = pyinfra("-y", "inventory", "deploys/undo.py", "--data", f"run={run}")
    assert again.returncode == 0
    assert "Success" not in again.stderr.split("--> Results:")[0]


def test_undo_leaves_a_file_alone_that_was_edited_since(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    assert pyinfra("inventory", "deploys/fix_dns.py", "-y").returncode == 0
    (run,) = kept_runs(node)
    node.run(["sh", "-c", "echo '# mine' >> /etc/dnsmasq.d/k8s.conf"])
    before = files(node)
    done = pyinfra("-y", "inventory", "deploys/undo.py", "--data", f"run={run}")
    assert done.returncode == 1
    assert "/etc/dnsmasq.d/k8s.conf has changed since" in done.stderr
    assert files(node) == before


def test_a_node_without_its_controller_takes_the_change_back_by_itself(healed: Lab, reached: Host) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    change = planned_change(reached)
    node.run(["sh", "-c", dnsmasq.script(change, "test-run", 9)], stdin=dnsmasq.payload(change, "test-run"))
    assert all(served(node).values())
    deadline = time.monotonic() + 30
    while files(node) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert files(node) == before
    journal = node.run(["cat", "/var/lib/dnsmend/test-run/dnsmasq/journal"]).stdout
    assert "undone: not confirmed within 9 s" in journal
    assert not all(served(node).values())


def test_a_file_that_was_edited_after_it_was_read_is_not_overwritten(healed: Lab, reached: Host) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    change = planned_change(reached)
    node.run(["sh", "-c", "echo '# mine' >> /etc/dnsmasq.d/k8s.conf"])
    before = [line for line in state(node) if "dnsmend.lock" not in line]
    done = node.run(
        ["sh", "-c", dnsmasq.script(change, "test-run", 60)], stdin=dnsmasq.payload(change, "test-run"), check=False
    )
    assert done.returncode == 1
    assert "/etc/dnsmasq.d/k8s.conf has changed since it was read; nothing was changed" in done.stderr
    assert [line for line in state(node) if "dnsmend.lock" not in line] == before


def test_what_dnsmasq_itself_refuses_is_not_written(healed: Lab, reached: Host) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", node.name)
    change = planned_change(reached)
    before = files(node)
    spoilt = dnsmasq.payload(change, "test-run").splitlines()
    spoilt[0] = "0 bm90LWFuLW9wdGlvbgo="
    done = node.run(["sh", "-c", dnsmasq.script(change, "test-run", 60)], stdin="\n".join(spoilt) + "\n", check=False)
    assert done.returncode == 1
    assert "dnsmasq refuses the new configuration: dnsmasq: bad option at line 1" in done.stderr
    assert files(node) == before
    assert kept_runs(node) == ["test-run"] or kept_runs(node) == []
    assert node.run(["systemctl", "list-timers", "--all"]).stdout.count("dnsmend") == 0
