"""The conditions of the fault suite hold on a real node, and leave nothing; what never comes about is no pass."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.faults import conditions_controller, conditions_disk, conditions_dnsmasq, conditions_locks, conditions_ssh
from bench.faults import moments as when_
from bench.faults.case import Stage
from bench.faults.conditions import faults
from bench.faults.moments import Condition, when
from lab.api import Lab
from lab.places import Node


def test_every_fault_has_a_row_of_its_own() -> None:
    rows = Counter((fault.scenario.name, fault.name, fault.point) for fault in faults())
    assert len(rows) >= 60
    assert [row for row, count in rows.items() if count > 1] == []


@pytest.fixture
def stage(healed: Lab, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(healed, (), tmp_path)
    before = seen(stage.node)
    yield stage
    assert seen(stage.node) == before
    stage.node.run(["rm", "-rf", "/var/lib/dnsmend", "/run/dnsmend", "/run/dnsmend.lock"])


def seen(node: Node) -> str:
    """Mounts, files of /etc and units of a node."""
    script = (
        "cut -d ' ' -f 5,6 /proc/self/mountinfo; ls -d /run/covered*;"
        "find /etc /usr/local -xdev -type f -exec sha256sum {} + | sort;"
        "ls -A /run/systemd/system; systemctl show dnsmasq -p LoadState,ActiveState,DropInPaths; nft list ruleset"
    )
    return node.run(["sh", "-c", script], check=False).stdout


def reached(node: Node) -> bool:
    try:
        with socket.create_connection((node.plan.management, 22), timeout=1) as connection:
            connection.settimeout(1)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def writes(node: Node, path: str) -> str:
    """What the node says to a file being written; "" where it is."""
    return node.run(["sh", "-c", f"cp /etc/passwd {path} && rm {path}"], check=False).stderr


class Far:
    """How far a run is said to have come."""

    def __init__(self, tmp_path: Path) -> None:
        self.files = tmp_path
        self.step = tmp_path / "var/lib/dnsmend/run/dnsmasq"
        self.step.mkdir(parents=True)

    def note(self, text: str) -> None:
        with (self.step / "journal").open("a") as journal:
            journal.write(f"2026-11-22T00:00:00Z {text}\n")


@pytest.mark.parametrize(
    ("moment", "bring"),
    [
        (when_.begun, lambda far: (far.step / "about").touch()),
        (when_.armed, lambda far: (far.step.parent / "timer").touch()),
        (when_.written, lambda far: far.note("wrote /etc/dnsmasq.d/k8s.conf")),
        (when_.restarted, lambda far: far.note("restarted dnsmasq.service")),
        (when_.proven, lambda far: far.note("proven")),
        (when_.undone, lambda far: far.note("undone: not proven")),
        (when_.says(" -> "), lambda far: far.note("iptables: a -> b")),
    ],
)
def test_a_moment_is_seen_once_it_is_there(
    tmp_path: Path, moment: when_.Moment, bring: Callable[[Far], object]
) -> None:
    far = Far(tmp_path)
    # What another run has left is not this one's.
    other = Far(tmp_path / "other")
    for each in (far, other):
        each.note("backed up")
    progress = when_.Progress(far)  # type: ignore[arg-type]
    assert not moment(progress)
    bring(far)
    assert moment(progress)
    assert not moment(when_.Progress(far))  # type: ignore[arg-type]


def test_what_never_comes_about_and_what_fails_is_said(tmp_path: Path) -> None:
    far = Far(tmp_path)
    with pytest.raises(RuntimeError, match="never came so far"), when(far, when_.held, lambda: None):  # type: ignore[arg-type]
        pass

    def fails() -> None:
        raise OSError("no way")

    def once() -> None:
        with when(far, lambda progress: True, fails):  # type: ignore[arg-type]
            time.sleep(0.2)

    with pytest.raises(RuntimeError, match="no way"):
        once()


@pytest.mark.lab
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_disk(stage: Stage, what: str) -> None:
    folders = ("/etc/dnsmasq.d", "/var/lib/dnsmend")
    with conditions_disk.full(stage, folders, what, None):
        for folder in folders:
            assert "No space left" in writes(stage.node, f"{folder}/new")
        assert "server=" in stage.node.read("/etc/dnsmasq.d/20-upstreams.conf")
    assert writes(stage.node, "/etc/dnsmasq.d/new") == ""


@pytest.mark.lab
def test_what_is_written_before_it_is_full_stays(stage: Stage) -> None:
    with conditions_disk.full(stage, ("/var/lib/dnsmend",), "bytes", when_.held):
        stage.node.write("/var/lib/dnsmend/a/b", "kept\n")
        stage.node.write("/run/dnsmend/lock", "")
        # Looked at from outside: a file that is written and removed meanwhile would give its room back.
        deadline = time.monotonic() + 10
        while os.statvfs(stage.node.files / "var/lib/dnsmend").f_bavail and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "No space left" in writes(stage.node, "/var/lib/dnsmend/c")
    assert stage.node.read("/var/lib/dnsmend/a/b") == "kept\n"


@pytest.mark.lab
def test_a_read_only_disk(stage: Stage) -> None:
    with conditions_disk.read_only(stage, ("/etc", "/var/lib/dnsmend"), None):
        assert "Read-only file system" in writes(stage.node, "/etc/new")
        assert "Read-only file system" in writes(stage.node, "/var/lib/dnsmend/new")
    assert writes(stage.node, "/etc/new") == ""


@pytest.mark.lab
def test_the_cable_is_out_and_in_again(stage: Stage) -> None:
    assert reached(stage.node)
    try:
        conditions_ssh.plug(stage, False)
        assert not reached(stage.node)
    finally:
        conditions_ssh.plug(stage, True)
    assert reached(stage.node)


def of(name: str, point: str = "") -> Condition:
    """The condition of that name."""
    return next(fault.during for fault in faults() if fault.name == name and point in fault.point)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("name", "path"), [("another change under way", "/run/dnsmend.lock"), ("xtables lock held", "/run/xtables.lock")]
)
def test_a_lock_is_held(stage: Stage, name: str, path: str) -> None:
    free = ["flock", "-n", path, "true"]
    with of(name)(stage):
        assert stage.node.run(free, check=False).returncode == 1
    assert stage.node.run(free, check=False).returncode == 0


@pytest.mark.lab
def test_dpkgs_lock_is_held(stage: Stage) -> None:
    with of("dpkg's lock held")(stage):
        done = stage.node.run(["dpkg", "--configure", "-a"], check=False)
        assert done.returncode == 2 and "lock" in done.stderr
    assert stage.node.run(["dpkg", "--configure", "-a"], check=False).returncode == 0


@pytest.mark.lab
def test_a_unit_that_is_masked_or_does_not_start(stage: Stage) -> None:
    restart = ["systemctl", "restart", "dnsmasq"]
    with of("dnsmasq's unit is masked", "beginning")(stage):
        assert "masked" in stage.node.run(restart, check=False).stderr
        assert stage.node.active("dnsmasq")
    with of("dnsmasq does not start with the new files")(stage):
        assert stage.node.run(restart, check=False).returncode == 0
        stage.node.write("/etc/dnsmasq.d/dnsmend.conf", "")
        assert stage.node.run(restart, check=False).returncode == 1
        stage.node.remove("/etc/dnsmasq.d/dnsmend.conf")
        stage.node.run(restart)


@pytest.mark.lab
@pytest.mark.parametrize(
    "whose", ["answers to the pod come and go, 0.1 s each", "answers of its upstreams come and go, 1 s each"]
)
def test_answers_come_and_go(stage: Stage, whose: str) -> None:
    """From the moment of a restart on, which a journal's line brings about here."""
    client, vip = stage.node.pod("client"), stage.node.plan.vip

    def good() -> bool:
        # A name that is not in dnsmasq's memory.
        return client.ask(vip, f"{time.monotonic_ns()}.example.com").kind == "answered"

    with of(whose)(stage):
        stage.node.write("/var/lib/dnsmend/run/dnsmasq/journal", "now restarted dnsmasq.service\n")
        found: Counter[bool] = Counter()
        deadline = time.monotonic() + 30
        while len(found) < 2 and time.monotonic() < deadline:
            found[good()] += 1
        assert set(found) == {True, False}
    deadline = time.monotonic() + 10
    while not good() and time.monotonic() < deadline:
        pass
    assert good()


def test_a_checkout_of_its_own() -> None:
    with conditions_controller.checkout() as folder:
        assert (folder / "deploys/fix_dns.py").is_file() and not (folder / "runs").exists()
    assert not folder.exists()


@pytest.mark.lab
@pytest.mark.parametrize(("how", "code"), [("full", errno.ENOSPC), ("read-only", errno.EROFS), ("file", errno.ENOTDIR)])
def test_a_journal_that_cannot_be_written(stage: Stage, how: str, code: int) -> None:
    name = {"full": "disk is full", "read-only": "disk is read-only", "file": "runs is no folder"}[how]
    with of(f"the controller's {name}", "beginning")(stage):
        folder = stage.checkout
        with pytest.raises(OSError) as raised, (folder / "runs/new").open("w") as file:
            file.write("text")
            file.flush()
        assert raised.value.errno == code
    assert not folder.exists()


@pytest.mark.lab
def test_clocks_jump(stage: Stage) -> None:
    with of("the node's date(1) jumps")(stage):
        shell = "for n in 1 2 3; do date +%Y; done; date -d @0 +%Y"
        years = stage.node.run(["sh", "-c", shell]).stdout.split()
        assert len(set(years[:3])) >= 2 and years[3] == "1970"
    with of("the controller's clock jumps")(stage):
        program = "import time; print(len({time.time() // 8640000 for _ in range(30) if time.sleep(0.1) is None}))"
        said = subprocess.run(
            [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
        )
        assert int(said.stdout) >= 2


@pytest.mark.lab
def test_a_dead_controllers_lock(stage: Stage) -> None:
    for ttl, end in ((600, "good for 600 s"), (0, "that has run out")):
        condition = next(fault.during for fault in faults() if fault.name.endswith(end))
        with condition(stage):
            assert "ann@laptop, process 7" in stage.node.read("/run/dnsmend/lock"), ttl
        assert stage.node.run(["test", "-e", "/run/dnsmend"], check=False).returncode == 1
    assert conditions_locks.faults() and conditions_dnsmasq.faults()
