"""The way back across the fleet: the last wave first, from any controller; who else is at work is said; dry runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.undoing import Known, latest, listing, order
from facts.runs import State, Step
from lab.api import Lab
from lab.places import Node
from models import journal
from tests.conftest import ROOT, Run
from tests.deploys.nodes import served, state


def step(run: str = "r", wave: int = 0, time: int = 0, state: State = "proven", name: str = "dnsmasq") -> Step:
    return {
        "run": run,
        "step": name,
        "number": 1,
        "wave": wave,
        "time": time,
        "booted": False,
        "by": "ann@laptop, process 7",
        "what": "",
        "state": state,
        "reason": "not proven" if state == "undone" else "",
    }


def test_the_last_wave_comes_first() -> None:
    steps = {"a": [step(wave=1)], "b": [step(wave=2)], "c": [step(wave=2)], "d": [step(wave=3)]}
    assert order(steps) == [["d"], ["b", "c"], ["a"]]
    # The controller's journal knows better: a node's record may be of a run without waves.
    assert order(steps, [["d"], ["c", "x"], ["a", "b"]]) == [["a", "b"], ["c"], ["d"]]


def test_without_waves_the_latest_change_comes_first() -> None:
    steps = {"a": [step(time=5), step(time=9)], "b": [step(time=7)], "c": [step(wave=1, time=1)]}
    assert order(steps) == [["c"], ["a"], ["b"]]
    assert order({}) == []


def test_the_latest_run_also_where_it_was_taken_back() -> None:
    steps = {"a": [step("old", time=1), step("new", time=9, state="undone")], "b": [step("mid", time=5)]}
    assert latest(steps) == ["new", "mid", "old"]
    assert latest({}) == []


def test_a_nodes_clock_does_not_choose_the_run() -> None:
    earlier, later, same = "20261121T230000Z-ffff", "20261122T080000Z-0000", "20261122T080000Z-1111"
    steps = {"a": [step(earlier, time=4_000_000_000)], "b": [step(later, time=9)]}
    assert latest(steps) == [later, earlier]
    told = [line.split(":")[0] for line in listing(Known(steps, {})) if line.startswith("run ")]
    assert told == [f"run {later}", f"run {earlier}"]
    # Of two in one second the node knows better, and of ids that somebody has made up.
    assert latest({"a": [step(later, time=9), step(same, time=5)]}) == [later, same]
    assert latest({"a": [step("zz", time=9), step("r", time=10), step(earlier, time=1)]}) == [earlier, "r", "zz"]
    assert latest({"a": [step("zz", time=9), step("r", time=10)]}) == ["r", "zz"]


def test_the_list_of_runs() -> None:
    now = int(time.time())
    steps = {
        "a": [step("r1", time=now - 7300), step("r2", time=now - 5, state="open")],
        "b": [step("r1", state="undone")],
    }
    assert listing(Known(steps, {"c": "it could not be reached"})) == [
        "run r2: 5 s ago, by ann@laptop, process 7",
        "    a: dnsmasq (not confirmed)",
        "run r1: 2 h ago, by ann@laptop, process 7",
        "    a: dnsmasq (in force)",
        "    b: dnsmasq (undone: not proven)",
        "c: it could not be reached",
    ]
    assert listing(Known({}, {})) == ["no node has a run that could be taken back"]


def test_the_journal() -> None:
    lines = [
        '{"event": "began", "node": "", "waves": [["a"], ["b", "c"]]}',
        '{"event": "changed", "node": "a"}',
        '{"event": "failed", "node": "b"}',
        "[1]",
        '{"event": "chang',
    ]
    assert journal.waves(journal.entries(lines)) == [["a"], ["b", "c"]]
    assert journal.changed(journal.entries(lines)) == ["a", "b"]
    assert journal.waves(journal.entries(["", "{}"])) == []


FIX = ("inventory", "deploys/fix_dns.py", "-y", "--data", "wave_nodes=1")
UNDO = ("-y", "inventory", "deploys/undo.py")


def files(node: Node) -> str:
    return node.run(["sh", "-c", "find /etc /var/lib/dpkg -xdev -type f -exec sha256sum {} + | sort"]).stdout


def runs_of(node: Node) -> list[str]:
    return node.run(["sh", "-c", "ls /var/lib/dnsmend 2>/dev/null; true"]).stdout.split()


def undone_at(node: Node, run: str) -> float:
    return float(node.run(["stat", "-c", "%.9Y", f"/var/lib/dnsmend/{run}/dnsmasq/undone"]).stdout)


@pytest.fixture
def broken(healed: Lab) -> Iterator[Lab]:
    """Every node's dnsmasq leaves its pods without an answer."""
    for node in healed.nodes:
        node.run(["rm", "-rf", "/var/lib/dnsmend", "/run/dnsmend"])
        healed.inject("dnsmasq-except-cilium", node.name)
    yield healed
    for node in healed.nodes:
        node.run(["rm", "-rf", "/var/lib/dnsmend", "/run/dnsmend"])


def fixed(lab: Lab, pyinfra: Run) -> str:
    done = pyinfra(*FIX, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(all(served(node).values()) for node in lab.nodes)
    (run,) = runs_of(lab.nodes[0])
    return run


@pytest.mark.lab
@pytest.mark.parametrize("elsewhere", [False, True], ids=["with-journal", "from-another-controller"])
def test_every_byte_comes_back_in_reverse(broken: Lab, pyinfra: Run, elsewhere: bool) -> None:
    before = {node.name: files(node) for node in broken.nodes}
    run = fixed(broken, pyinfra)
    path = ROOT / "runs" / f"{run}.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    entries = journal.entries(path.read_text().splitlines())
    assert entries[0]["event"] == "began" and entries[0]["policy"]["wave_nodes"] == 1
    assert journal.waves(entries) == [["node-0"], ["node-1"], ["node-2"]]
    assert [(each["event"], each["node"], each.get("wave")) for each in entries if each["event"] == "changed"] == [
        ("changed", "node-0", 1),
        ("changed", "node-1", 2),
        ("changed", "node-2", 3),
    ]
    assert entries[-1]["event"] == "ended" and entries[-1]["failed"] == []
    if elsewhere:
        path.unlink()
    else:
        held = {node.name: state(node) for node in broken.nodes}
        dry = pyinfra("inventory", "deploys/undo.py", "--dry", "--data", "run=last")
        assert dry.returncode == 0, dry.stderr
        for words in (
            "restore /etc/dnsmasq.d/k8s.conf (sha256 ",
            "rm /etc/dnsmasq.d/dnsmend.conf",
            "systemctl restart",
        ):
            assert dry.stderr.count(f"dnsmasq: {words}") == 3
        for node in broken.nodes:
            assert set(state(node)) ^ set(held[node.name]) == set()
    done = pyinfra(*UNDO, "--data", "run=last" if elsewhere else f"run={run}", timeout=300)
    assert done.returncode == 0, done.stderr
    assert {node.name: files(node) for node in broken.nodes} == before
    times = [undone_at(node, run) for node in broken.nodes]
    assert times == sorted(times, reverse=True)
    again = pyinfra(*UNDO, "--data", f"run={run}")
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]
    listed = pyinfra(*UNDO)
    assert listed.returncode == 0
    assert f"run {run}: " in listed.stderr and listed.stderr.count("dnsmasq (undone: by hand)") == 3
    for node in broken.nodes:
        assert node.run(["ls", "/run/dnsmend"], check=False).returncode != 0


@pytest.mark.lab
@pytest.mark.parametrize("what", ["file", "unit", "gone"])
def test_what_somebody_else_has_changed_is_named_and_its_node_left_alone(broken: Lab, pyinfra: Run, what: str) -> None:
    before = {node.name: files(node) for node in broken.nodes}
    run = fixed(broken, pyinfra)
    node = broken.node("node-1")
    said = {
        "file": "/etc/dnsmasq.d/dnsmend.conf has changed since run",
        "unit": "the unit dnsmasq.service has changed since run",
        "gone": "/etc/dnsmasq.d/k8s.conf has changed since run",
    }[what]
    if what == "file":
        node.run(["sh", "-c", "echo '# mine' >> /etc/dnsmasq.d/dnsmend.conf"])
    elif what == "gone":
        node.remove("/etc/dnsmasq.d/k8s.conf")
    else:
        node.write("/etc/systemd/system/dnsmasq.service.d/mine.conf", "[Service]\nNice=1\n")
        node.run(["systemctl", "daemon-reload"])
    held = files(node)
    dry = pyinfra("inventory", "deploys/undo.py", "--dry", "--data", f"run={run}")
    assert f"[node-1] refused: dnsmasq: {said} {run}" in dry.stderr
    done = pyinfra(*UNDO, "--data", f"run={run}", timeout=300)
    assert done.returncode == 1
    assert f"[node-1] dnsmend: dnsmasq: {said} {run}; nothing was undone" in done.stderr
    assert files(node) == held
    # The others are back: one node's trouble is not theirs.
    for name in ("node-0", "node-2"):
        assert files(broken.node(name)) == before[name]


@pytest.mark.lab
def test_a_node_that_is_not_reached_is_said_and_done_later(broken: Lab, pyinfra: Run) -> None:
    before = {node.name: files(node) for node in broken.nodes}
    run = fixed(broken, pyinfra)
    node = broken.node("node-2")
    node.run(["systemctl", "stop", "sshd.socket", "sshd.service", "ssh.socket", "ssh.service"], check=False)
    try:
        done = pyinfra(*UNDO, "--data", f"run={run}", timeout=300)
    finally:
        node.run(["sh", "-c", "systemctl start sshd.service || systemctl start ssh.service"])
    assert done.returncode == 1
    assert f"node-2: it could not be reached: what run {run} has changed there stays" in done.stderr
    assert all(served(node).values())
    assert [files(each) == before[each.name] for each in broken.nodes] == [True, True, False]
    again = pyinfra(*UNDO, "--data", f"run={run}", timeout=300)
    assert again.returncode == 0, again.stderr
    assert {each.name: files(each) for each in broken.nodes} == before


@pytest.mark.lab
@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("20200101T000000Z-0000", "no node has run 20200101T000000Z-0000"),
        ("../../etc", "is no run's id"),
        ("a; reboot", "is no run's id"),
        ("last", "no node has a run that could be taken back"),
    ],
)
def test_a_run_that_is_none(healed: Lab, pyinfra: Run, run: str, said: str) -> None:
    for node in healed.nodes:
        node.run(["rm", "-rf", "/var/lib/dnsmend"])
    done = pyinfra(*UNDO, "--data", f"run={run}")
    assert done.returncode == 1 and said in done.stderr


def ended(last: Node, how: signal.Signals) -> subprocess.Popen[bytes]:
    """A controller that was sent this signal once it held the nodes, of which `last` is the last one."""
    running = subprocess.Popen(
        [sys.executable, "-m", "pyinfra", *FIX],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYINFRA_PROGRESS": "off"},
        # Whoever runs the tests may ignore SIGHUP (nohup), and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 90
    while last.run(["test", "-e", "/run/dnsmend/lock"], check=False).returncode and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(how)
    running.wait(timeout=120)
    return running


@pytest.mark.lab
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_controller_that_is_told_to_end_lets_go(broken: Lab, how: signal.Signals) -> None:
    """A cancelled CI job, a closed terminal, Ctrl-C: nobody has to wait until its locks run out."""
    running = ended(broken.node("node-2"), how)
    assert running.returncode == 128 + how
    for node in broken.nodes:
        assert node.run(["test", "-e", "/run/dnsmend/lock"], check=False).returncode


@pytest.mark.lab
def test_a_killed_controller_is_named_and_nothing_is_changed_before_its_lock_runs_out(
    broken: Lab, pyinfra: Run, tmp_path: Path
) -> None:
    """SIGKILL once it holds the nodes; a second run stops before any change on any node, and an undo as well."""
    before = {node.name: files(node) for node in broken.nodes}
    last = broken.node("node-2")
    killed = ended(last, signal.SIGKILL)
    held = {node.name: files(node) for node in broken.nodes}
    assert held["node-2"] == before["node-2"]
    done = pyinfra(*FIX)
    assert done.returncode == 1
    assert "stopped before any change:" in done.stderr
    assert f", process {killed.pid} holds this node since " in done.stderr
    for node in broken.nodes:
        # Of what it did not get it holds nothing.
        assert f"process {killed.pid}\n" in node.read("/run/dnsmend/lock")
    assert files(last) == before["node-2"]
    # Its locks run out, and what it had begun goes back by itself: brought about at once.
    for node in broken.nodes:
        node.run(["sed", "-i", "s/^until .*/until 1/", "/run/dnsmend/lock"])
        node.run(["sh", "-c", "for run in /var/lib/dnsmend/*/run.sh; do [ ! -e $run ] || sh $run late later; done"])
    assert {node.name: files(node) for node in broken.nodes} == before
    converged = pyinfra(*FIX, timeout=300)
    assert converged.returncode == 0, converged.stderr
    assert "had run out" in converged.stderr
    assert all(all(served(node).values()) for node in broken.nodes)


@pytest.mark.lab
def test_a_run_that_fails_lets_go(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    healed.inject("dnsmasq-cannot-verify", node.name)
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y", timeout=300)
    assert done.returncode == 1 and "not proven" in done.stderr
    assert node.run(["test", "-e", "/run/dnsmend"], check=False).returncode == 1
    (run,) = runs_of(node)[-1:]
    entries = journal.entries((ROOT / "runs" / f"{run}.jsonl").read_text().splitlines())
    events = [each["event"] for each in entries if each["node"] in ("node-0", "")]
    assert events == ["began", "changed", "asked", "undone", "ended"]
    assert entries[-1]["failed"] == ["node-0"]


@pytest.mark.lab
def test_looking_and_planning_take_no_lock(broken: Lab, pyinfra: Run) -> None:
    """They go on while another run holds the nodes, which a change does not."""
    from operations import lock

    for node in broken.nodes:
        node.run(["sh", "-c", lock.script("20261122T070000Z-0000", by="ann@laptop, process 7"), "-", "take"])
    held = {node.name: state(node) for node in broken.nodes}
    assert pyinfra("inventory", "deploys/fix_dns.py", "--dry").returncode == 0
    looked = pyinfra("-y", "inventory", "deploys/diagnose.py")
    assert "except-interface" in looked.stderr
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y", "--fail-percent", "100")
    assert done.returncode == 1 and "of ann@laptop, process 7 holds this node" in done.stderr
    for node in broken.nodes:
        assert set(state(node)) ^ set(held[node.name]) == set()


def test_the_journals_policy_is_json(tmp_path: Path) -> None:
    lines = [json.dumps({"event": "began", "waves": "not a list"})]
    assert journal.waves(journal.entries(lines)) == []
