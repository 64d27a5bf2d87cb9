"""What nobody confirms goes back, by the timer or at the next boot; what was confirmed stays, and leaves nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from facts.runs import Runs
from lab.api import Lab
from lab.places import Node
from operations import dnsmasq, lock, runs
from operations.scripts import step_script
from operations.sysctl import FILE
from tests.deploys.nodes import planned_change, served
from tests.operations.conftest import Operate
from tests.operations.rules import COMMANDS, clear, is_owned, load, save

pytestmark = pytest.mark.lab

RUN = "20261122T080000Z-abcd"
UNIT = f"/etc/systemd/system/{runs.boot_unit(RUN)}"
NAME = "net.ipv4.ip_default_ttl"


@pytest.fixture
def node(healed: Lab) -> Iterator[Node]:
    # The lab's boot leaves the settings of the network as they are, which a kernel would not.
    healed.node("node-0").run(["sysctl", "-q", "-w", f"{NAME}=64"])
    yield healed.node("node-0")
    clear(healed.node("node-0"))
    healed.node("node-0").run(["sysctl", "-q", "-w", f"{NAME}=64"])


def files(node: Node) -> str:
    return node.run(["sh", "-c", "find /etc -xdev -type f -exec sha256sum {} + | sort"]).stdout


def traces(node: Node, known: str = "--all") -> str:
    """Units, timers and files of ours that are there now; `known`: those too that systemd has only read."""
    script = (
        f"systemctl list-units {known} --plain --no-legend 'dnsmend*'; systemctl list-timers --all | grep dnsmend; "
        "find /etc/systemd /run/systemd -name 'dnsmend*'; find /etc/dnsmasq.d -name '.dnsmend*'; true"
    )
    return node.run(["sh", "-c", script]).stdout


def dnsmasq_change(node: Node, reached: Any, undo_after: int = 600) -> None:
    """The change that deploys/fix_dns.py would make, which nobody confirms."""
    change = planned_change(reached)
    node.run(["sh", "-c", dnsmasq.script(change, RUN, undo_after)], stdin=dnsmasq.payload(change, RUN))


def sysctl_change(node: Node) -> None:
    text = step_script(
        "set-sysctls.sh.j2", RUN, "sysctl", 600, about="ttl", now={NAME: "64"}, wanted={NAME: "63"}, file=FILE
    )
    node.run(["sh", "-c", text])


def confirm(node: Node, check: bool = True) -> str:
    done = node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "confirm"], check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stderr


def journal(node: Node, step: str = "dnsmasq") -> str:
    return node.read(f"/var/lib/dnsmend/{RUN}/{step}/journal")


def test_a_node_that_is_booted_before_the_confirmation_has_its_old_files(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    dnsmasq_change(node, reached)
    sysctl_change(node)
    assert files(node) != before and all(served(node).values())
    assert node.run(["systemctl", "list-timers", "--all"]).stdout.count("dnsmend-undo") == 2

    node = healed.reboot(node.name)
    assert files(node) == before
    assert not all(served(node).values())
    assert "undone: not confirmed before the node was booted" in journal(node)
    assert "undone: not confirmed before the node was booted" in journal(node, "sysctl")
    assert "restarted dnsmasq" not in journal(node).split("not confirmed")[1]
    # It was done before dnsmasq was started, which has not been started twice.
    shown = node.run(["systemctl", "show", "dnsmasq", "-p", "NRestarts,ActiveEnterTimestampMonotonic"]).stdout
    assert "NRestarts=0" in shown
    # systemd remembers until its next daemon-reload that there was a unit.
    assert traces(node, known="") == ""


def test_what_was_confirmed_outlives_a_boot(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    dnsmasq_change(node, reached)
    assert node.run(["test", "-e", UNIT], check=False).returncode == 0
    confirm(node)
    assert traces(node) == ""
    after = files(node)
    node = healed.reboot(node.name)
    assert files(node) == after
    assert all(served(node).values())
    # Taken back by hand, after the boot as before it.
    node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all", "by hand"])
    assert not all(served(node).values())


def test_a_unit_that_is_read_and_pulled_in_before_a_boot_does_nothing(healed: Lab, node: Node, reached: Any) -> None:
    """systemd starts what sysinit.target wants with every unit, once somebody's daemon-reload has read it."""
    healed.inject("dnsmasq-except-cilium", node.name)
    dnsmasq_change(node, reached)
    after = files(node)
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "restart", "dnsmasq"])
    node.run(["systemctl", "start", runs.boot_unit(RUN)])
    assert files(node) == after and all(served(node).values())
    confirm(node)
    assert traces(node) == ""


def test_alternatives_come_back_with_a_boot(healed: Lab, node: Node) -> None:
    queries = ["sh", "-c", "update-alternatives --query iptables; sha256sum /var/lib/dpkg/alternatives/ip*tables"]
    before = node.run(queries).stdout
    group = {"name": "iptables", "path": "/usr/sbin/iptables-legacy", "was": "/usr/sbin/iptables-nft", "auto": True}
    text = step_script(
        "set-alternatives.sh.j2",
        RUN,
        "alternatives",
        600,
        about="make iptables legacy",
        groups=[group],
        commands=["iptables"],
        word="legacy",
        written=["iptables-legacy"],
        owned=["^KUBE-"],
        own_comment="kubernetes",
        bare="none",
    )
    node.run(["sh", "-c", text])
    assert node.run(queries).stdout != before
    node = healed.reboot(node.name)
    assert node.run(queries).stdout == before
    assert traces(node, known="") == ""


def test_rules_are_gone_with_a_boot_and_stay_gone(healed: Lab, node: Node, operate: Operate) -> None:
    """The rules of a boot end with it. Stale ones are not brought back into the next."""
    for command in COMMANDS:
        load(node, command)
    for name in ("iptables", "ip6tables"):
        node.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy"])
    done = operate("netfilter.remove_stale", "losing=nft", f"run={RUN}")
    assert done.returncode == 0, done.stderr
    node = healed.reboot(node.name)
    assert not any(map(is_owned, save(node, "iptables-nft")))
    assert "nothing to do: the node was booted since, and its rules of then are gone" in journal(node, "netfilter")
    assert traces(node, known="") == ""


def test_a_run_that_was_taken_back_meanwhile_is_not_confirmed(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    dnsmasq_change(node, reached, undo_after=2)
    deadline = time.monotonic() + 30
    while files(node) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "dnsmasq was taken back meanwhile: not confirmed within 2 s" in confirm(node, check=False)
    deadline = time.monotonic() + 10
    while traces(node) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert traces(node) == ""


def test_one_timer_for_all_steps_and_they_go_back_in_reverse(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    sysctl_change(node)
    dnsmasq_change(node, reached, undo_after=2)
    assert node.run(["systemctl", "list-timers", "--all"]).stdout.count("dnsmend-undo") == 2
    deadline = time.monotonic() + 30
    while files(node) != before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert files(node) == before
    times = node.run(["sh", "-c", f"cd /var/lib/dnsmend/{RUN} && stat -c %.9Y dnsmasq/undone sysctl/undone"]).stdout
    latest, first = map(float, times.split())
    assert latest < first
    assert node.run(["sysctl", "-n", NAME]).stdout.strip() == "64"


def test_a_daemon_reload_in_between_does_not_disarm_it(healed: Lab, node: Node, reached: Any) -> None:
    """Somebody installs a package: systemd reads the timer's unit anew from what it has written down itself."""
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    dnsmasq_change(node, reached, undo_after=10)
    assert files(node) != before
    node.run(["systemctl", "daemon-reload"])
    deadline = time.monotonic() + 60
    while traces(node) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert files(node) == before
    assert "undone: not confirmed within 10 s" in journal(node)
    assert traces(node) == ""


def test_what_is_kept_is_roots_alone_and_told_from_anything_else(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    dnsmasq_change(node, reached)
    confirm(node)
    after = files(node)
    modes = node.run(["find", "/var/lib/dnsmend", "-printf", "%y %m %P\n"]).stdout.splitlines()
    assert {line.split()[1] for line in modes if line.startswith("d ")} == {"700"}
    own = [line for line in modes if line.startswith("f ") and "/before/" not in line]
    assert own and {line.split()[1] for line in own} == {"600"}
    kept = f"/var/lib/dnsmend/{RUN}/dnsmasq/before/0"
    text = node.read(kept)
    node.write(kept, text + "# not what it was\n")
    undone = node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all"], check=False)
    assert undone.returncode == 3
    assert "is not what it was; nothing was undone" in undone.stderr
    assert files(node) == after
    node.write(kept, text)
    node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all"])
    assert files(node) == before


def test_free_text_is_kept_as_it_is(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """sh's echo may read a backslash, and end at "\\c": who it was, and why."""
    monkeypatch.setattr(runs, "BY", r"CORP\carl@laptop, process 7")
    sysctl_change(node)
    about = node.read(f"/var/lib/dnsmend/{RUN}/sysctl/about").splitlines()
    assert about[-2:] == [r"by CORP\carl@laptop, process 7", "what ttl"]
    node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all", r"by hand of CORP\carl, who\nwants it"])
    assert journal(node, "sysctl").endswith("undone: by hand of CORP\\carl, who\\nwants it\n")
    said = node.run(["sh", "-c", Runs().command()]).stdout.splitlines()
    (read,) = Runs().process(said)["value"]
    assert (read["by"], read["reason"]) == (
        r"CORP\carl@laptop, process 7",
        r"by hand of CORP\carl, who\nwants it",
    )


@pytest.mark.parametrize("edited", [False, True])
def test_a_node_without_cmp_goes_back_and_knows_what_others_have_changed(
    healed: Lab, node: Node, reached: Any, edited: bool
) -> None:
    """cmp(1) is of diffutils, which a small system does not have."""
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    cmp = node.run(["sh", "-c", "command -v cmp"]).stdout.strip()
    node.run(["mv", cmp, f"{cmp}.away"])
    try:
        dnsmasq_change(node, reached)
        sysctl_change(node)
        if edited:
            node.run(["sh", "-c", "echo '# mine' >> /etc/dnsmasq.d/dnsmend.conf"])
        changed = files(node)
        done = node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all"], check=False)
    finally:
        node.run(["mv", f"{cmp}.away", cmp])
    if edited:
        assert done.returncode == 3 and "/etc/dnsmasq.d/dnsmend.conf has changed since run" in done.stderr
        assert files(node) == changed
    else:
        assert (done.returncode, files(node)) == (0, before), done.stderr


def test_old_runs_go_and_none_that_waits(node: Node) -> None:
    def settings(run: str, check: bool = True) -> None:
        node.run(["sysctl", "-q", "-w", f"{NAME}=64"])
        node.remove(FILE)
        text = step_script(
            "set-sysctls.sh.j2", run, "sysctl", 600, about="ttl", now={NAME: "64"}, wanted={NAME: "63"}, file=FILE
        )
        node.run(["sh", "-c", text])

    names = [f"202611{day:02d}T000000Z-0000" for day in range(1, runs.KEPT + 4)]
    for name in names:
        settings(name)
        if name != names[0]:
            node.run(["sh", f"/var/lib/dnsmend/{name}/run.sh", "confirm"])
    kept = node.run(["ls", "/var/lib/dnsmend"]).stdout.split()
    assert kept == [names[0], *names[-runs.KEPT :]]
    # What others have set since is theirs: this one is not taken back any more, and its timer goes.
    assert node.run(["sh", f"/var/lib/dnsmend/{names[0]}/run.sh", "each"], check=False).returncode == 3
    assert traces(node) == ""


def test_a_full_disk_changes_nothing_and_leaves_nothing(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    change = planned_change(reached)
    node.run(["mkdir", "-p", "/var/lib/dnsmend"])
    for size in ("4k", "12k", "24k", "32k", "40k"):
        node.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "full", "/var/lib/dnsmend"])
        try:
            done = node.run(
                ["sh", "-c", dnsmasq.script(change, RUN, 600)], stdin=dnsmasq.payload(change, RUN), check=False
            )
            assert done.returncode != 0, size
            assert re.search("nothing was changed", done.stderr), done.stderr
            assert node.run(["ls", "/var/lib/dnsmend"]).stdout == ""
        finally:
            node.run(["umount", "/var/lib/dnsmend"])
        assert files(node) == before
        assert traces(node) == ""


def test_a_step_that_gives_up_after_its_controller_is_gone_leaves_nothing(node: Node) -> None:
    """What it says goes to nobody then: that must not end it before it has cleaned up."""
    text = step_script(
        "set-sysctls.sh.j2", RUN, "sysctl", 600, about="ttl", now={NAME: "1"}, wanted={NAME: "63"}, file=FILE
    )
    # Nobody reads, as nobody does of a connection that is gone.
    said = node.run(["bash", "-c", '{ sh -c "$1" 2>&1; echo "${PIPESTATUS[0]} $?" >&2; } | true', "-", text]).stderr
    assert said.split() == ["1", "1"], said
    assert node.run(["ls", "-A", "/var/lib/dnsmend"], check=False).stdout == ""


def test_another_runs_lock_keeps_a_step_from_changing_anything(healed: Lab, node: Node, reached: Any) -> None:
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    change = planned_change(reached)
    node.run(["sh", "-c", lock.script("20261122T070000Z-0000", by="ann@laptop, process 7"), "-", "take"])
    done = node.run(["sh", "-c", dnsmasq.script(change, RUN, 600)], stdin=dnsmasq.payload(change, RUN), check=False)
    node.run(["sh", "-c", lock.script("20261122T070000Z-0000"), "-", "release"])
    assert done.returncode == 1
    assert re.search(
        r"run 20261122T070000Z-0000 of ann@laptop, process 7 holds this node since \S+Z, until \S+Z unless it renews "
        r"that; nothing was changed",
        done.stderr,
    )
    assert files(node) == before
    assert node.run(["ls", "-A", "/var/lib/dnsmend"], check=False).stdout == ""


def test_a_disk_that_is_full_for_the_new_files_has_room_for_the_way_back(healed: Lab, node: Node, reached: Any) -> None:
    """What the change has not come to needs none: nothing waits for its timer, and nothing is left."""
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    change = planned_change(reached)
    folder = "/etc/dnsmasq.d"
    # dnsmasq reads no file whose name begins with a dot.
    full = (
        f"cp -a {folder} /run/was && mount -t tmpfs -o size=64k,mode=755 full {folder} && cp -a /run/was/. {folder} && "
        f"rm -r /run/was; dd if=/dev/zero of={folder}/.ballast bs=512 2>/dev/null; true"
    )
    node.run(["sh", "-c", full])
    try:
        done = node.run(["sh", "-c", dnsmasq.script(change, RUN, 600)], stdin=dnsmasq.payload(change, RUN), check=False)
        assert done.returncode == 1
        assert "could not be written; everything is as it was" in done.stderr
        assert traces(node) == ""
    finally:
        node.run(["umount", folder])
    assert files(node) == before
    assert "undone: /etc/dnsmasq.d/" in journal(node)


def test_what_had_not_begun_is_cleared_by_the_next_step(node: Node) -> None:
    """A power cut, or a disk that has become read-only, leaves the folder of a step that has changed nothing."""
    cut, kept = "20261120T000000Z-0000", "20261121T000000Z-0000"
    for run in (cut, kept):
        node.write(f"/var/lib/dnsmend/{run}/run.sh", "")
        node.write(f"/var/lib/dnsmend/{run}/sysctl/about", f"number 1\ntime 1\nboot {run}\n")
    node.write(f"/var/lib/dnsmend/{kept}/sysctl/sums", "")
    sysctl_change(node)
    confirm(node)
    assert node.run(["ls", "/var/lib/dnsmend"]).stdout.split() == [kept, RUN]
    assert node.run(["test", "-e", f"/var/lib/dnsmend/{kept}/sysctl/about"], check=False).returncode == 0


def test_without_an_inode_it_goes_back_once(healed: Lab, node: Node, reached: Any) -> None:
    """What was taken back is known to be, and is not done again every ten seconds."""
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    dnsmasq_change(node, reached)
    full = (
        "cp -a /var/lib/dnsmend /run/was && mount -t tmpfs -o nr_inodes=50,mode=700 full /var/lib/dnsmend && "
        "cp -a /run/was/. /var/lib/dnsmend && rm -r /run/was && mkdir /var/lib/dnsmend/full && "
        "n=0 && while true 2>/dev/null > /var/lib/dnsmend/full/$n; do n=$((n + 1)); done"
    )
    node.run(["sh", "-c", full])
    try:
        done = node.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "late", "nobody there"], check=False)
        assert done.returncode == 0, done.stderr
        assert node.read(f"/var/lib/dnsmend/{RUN}/dnsmasq/undone") == "nobody there\n"
        assert files(node) == before
    finally:
        node.run(["umount", "/var/lib/dnsmend"])
    assert traces(node) == ""


def test_a_service_that_ends_after_its_start_has_not_started(healed: Lab, node: Node, reached: Any) -> None:
    """It may have answered every question of the proof by then."""
    healed.inject("dnsmasq-except-cilium", node.name)
    before = files(node)
    change = planned_change(reached)
    unit = "/etc/systemd/system/dnsmasq.service.d/short.conf"
    killed = (
        "systemd-run --quiet --collect --on-active=2 --timer-property=AccuracySec=100ms systemctl kill -s KILL dnsmasq"
    )
    node.write(unit, f"[Service]\nExecStartPost=/bin/sh -c '! test -e /etc/dnsmasq.d/dnsmend.conf || {killed}'\n")
    node.run(["systemctl", "daemon-reload"])
    try:
        done = node.run(["sh", "-c", dnsmasq.script(change, RUN, 600)], stdin=dnsmasq.payload(change, RUN), check=False)
    finally:
        node.remove(unit)
        node.run(["sh", "-c", "rmdir /etc/systemd/system/dnsmasq.service.d; systemctl daemon-reload"])
    assert done.returncode == 1
    assert re.search(r"dnsmasq\.service was gone \d s after its start: .*everything is as it was", done.stderr)
    assert files(node) == before
    assert node.active("dnsmasq.service")
    assert traces(node) == ""
