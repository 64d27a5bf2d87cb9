"""The fault suite: a kill in the middle of a change is survived, and the judge sees what is worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.faults import judge, tally
from bench.faults.case import Fault, Stage, kill
from bench.faults.controller import Boundary
from bench.faults.look import Look, look
from bench.faults.page import page
from bench.faults.play import Played, play, reference
from bench.faults.points import NAME, kills, kind
from bench.faults.scenarios import EXCEPT_LO
from lab.api import Lab
from lab.places import Node

SERVED = {"LAN udp": True, "node udp": True, "pod client udp": False}
OLD = Look(SERVED, {"file /etc/a": "1", "file /etc/b": "1", "file /etc/c": "1"}, (("now", "up", "1000"),))
NEW = replace(
    OLD, served=dict.fromkeys(SERVED, True), state={"file /etc/a": "2", "file /etc/c": "1", "file /etc/d": "2"}
)


def worse(now: Look, ended: bool = False) -> list[str]:
    return judge.worse(OLD, NEW, now, ("old", "new"), ended)


def ours(*lines: tuple[str, str, str]) -> Look:
    return replace(OLD, ours=(*OLD.ours, *lines))


def test_old_and_new_are_not_worse_and_what_is_between_is() -> None:
    assert worse(OLD) == worse(NEW, ended=True) == []
    assert (judge.outcome(OLD, NEW, OLD), judge.outcome(OLD, NEW, NEW)) == ("old", "new")
    between = replace(NEW, state={**NEW.state, "file /etc/b": "1"})
    assert worse(between) == ["its state is between"]
    assert judge.worse(OLD, NEW, between, ("between",), False) == []


def test_a_file_that_is_neither_is_named() -> None:
    half = replace(OLD, state={**OLD.state, "file /etc/c": "3", "file /etc/.a.tmp": "1"})
    assert worse(half) == [
        "file /etc/.a.tmp is neither as before nor as after a run without a fault",
        "file /etc/c is neither as before nor as after a run without a fault",
    ]


def test_who_was_answered_before_is_to_be_answered() -> None:
    assert worse(replace(OLD, served={**SERVED, "LAN udp": False})) == ["LAN udp is not answered any more"]
    # Whom an undisturbed run helps has to be helped where its files are in place.
    assert worse(replace(NEW, served=SERVED)) == ["pod client udp is not answered any more"]


def test_what_is_left_of_ours_is_named() -> None:
    assert worse(ours(("unit", "dnsmend-undo-r-dnsmasq.timer", "seen"))) == ["left: unit dnsmend-undo-r-dnsmasq.timer"]
    assert worse(ours(("step", "/var/lib/dnsmend/r/dnsmasq/", "proven"))) == []
    for line in (
        ("process", "/proc/7/cmdline", "sh"),
        ("held", "/run/dnsmend.lock", "yes"),
        ("waits", "/var/lib/dnsmend/r/timer", "yes"),
        ("begun", "/var/lib/dnsmend/r/run.sh.new", "yes"),
        ("temporary", "/tmp/pyinfra-1", "f"),
        ("step", "/var/lib/dnsmend/r/dnsmasq/", "open"),
        ("step", "/var/lib/dnsmend/r/dnsmasq/", "unsealed"),
    ):
        assert len(worse(ours(line))) == 1, line


def test_a_killed_controllers_lock_has_an_end() -> None:
    def lock(until: str) -> Look:
        return ours(("lock", "run", "r"), ("lock", "until", until))

    assert worse(lock("1180")) == []
    assert worse(lock("1180"), ended=True) == ["the lock of run r is left, although its controller came to its end"]
    assert worse(lock("900"), ended=True) == []
    assert len(worse(lock("1500"))) == len(worse(lock("soon"))) == 1


def test_one_kill_for_each_boundary_and_more_inside() -> None:
    moments = ("read 1 before", "step dnsmasq sent", "step dnsmasq running", "step dnsmasq answered", "confirm running")
    boundaries = [
        Boundary(name=f"node-0 {moment}", operation="", time=number * 0.17) for number, moment in enumerate(moments)
    ]
    found = kills(EXCEPT_LO, boundaries)
    assert {each.at for each in found if each.point == each.at} == {each["name"] for each in boundaries}
    inside = [each.point for each in found if each.kind == "while the node is changed"]
    assert len(inside) == 16 and inside[0] == "node-0 step dnsmasq 1/17" and inside[-1] == "node-0 step dnsmasq 16/17"
    assert found[-1].point == "node-0 read 1 before" and all(each.codes == (-9,) for each in found)


@pytest.mark.parametrize(
    ("point", "row"),
    [
        ("node-0 step dnsmasq before", "around a change"),
        ("node-0 lock take 1/5", "while the node locks, confirms or takes back"),
        ("node-0 operation 3 done", "between operations"),
        ("operation 3 begins", "between operations"),
        ("node-1 connect answered", "while connecting"),
        ("node-1 ask 2 running", "while reading or asking"),
    ],
)
def test_each_point_has_its_row(point: str, row: str) -> None:
    assert kind(point) == row


def test_the_page_has_a_row_for_each_kind_and_says_what_is_worse() -> None:
    def point(name: str, at: str, **seen: object) -> tally.Point:
        played = Played(outcomes={"node-0": "old"}, code=-9, lost={"LAN": 2}, asked=90, again=True)
        fault = Fault(EXCEPT_LO, name, at, kind=kind(at) if name == NAME else "condition")
        return tally.point(fault, replace(played, **seen))  # type: ignore[arg-type]

    good = [point(NAME, "node-0 confirm before"), point(NAME, "node-0 confirm running", outcomes={"node-0": "new"})]
    text = page(good)
    assert "2 points, 2 of them kills" in text and "None is worse" in text
    assert f"| {EXCEPT_LO.name} | around the confirmation | 2 | 1 old, 1 new | 0 | 2 | 2 of 2 |" in text
    bad = point("disk full", "in the middle", worse=["node-0: LAN udp is not answered any more"], again=False)
    text = page([*good, bad])
    assert "Worse afterwards: 1." in text and "## Worse" in text
    assert "| disk full | in the middle | dnsmasq, policy except-lo | -9 | old | node-0: LAN udp is" in text


@pytest.fixture
def node(healed: Lab) -> Iterator[Node]:
    node = healed.node("node-0")
    clean = "systemctl stop 'dnsmend-undo-*'; rm -rf /var/lib/dnsmend /run/dnsmend"
    node.run(["sh", "-c", clean], check=False)
    yield node
    node.run(["sh", "-c", f"systemctl start dnsmasq; {clean}"], check=False)


@pytest.mark.lab
def test_the_judge_fires(healed: Lab, node: Node) -> None:
    """Each made by hand on a healthy node, of which the judge knows how it was."""
    before = look(healed, node)

    def problems() -> str:
        return "\n".join(judge.worse(before, before, look(healed, node), ("old", "new"), True))

    assert problems() == ""

    node.run(["systemctl", "stop", "dnsmasq"])
    assert "LAN tcp is not answered any more" in problems() and "pod client udp is not" in problems()
    node.run(["systemctl", "start", "dnsmasq"])

    node.write("/etc/dnsmasq.d/.dnsmend-0", "half")
    assert problems() == "file /etc/dnsmasq.d/.dnsmend-0 is neither as before nor as after a run without a fault"
    node.remove("/etc/dnsmasq.d/.dnsmend-0")
    node.run(["truncate", "-s", "10", "/etc/dnsmasq.d/k8s.conf"])
    assert "file /etc/dnsmasq.d/k8s.conf is neither" in problems()
    healed.heal("node-0")

    node.run(["iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"])
    assert "rules iptables-legacy-save is neither" in problems()
    node.run(["iptables-legacy", "-D", "INPUT", "-j", "ACCEPT"])

    node.run(["systemd-run", "--quiet", "--unit=dnsmend-undo-r-dnsmasq", "--on-active=600", "true"])
    assert "left: unit dnsmend-undo-r-dnsmasq.timer" in problems()
    node.run(["systemctl", "stop", "dnsmend-undo-r-dnsmasq.timer"])

    node.run(["systemd-run", "--quiet", "--unit=faults-test", "flock", "/run/dnsmend.lock", "sleep", "60"])
    assert "a lock is held: /run/dnsmend.lock" in problems() and "a process of ours is left" in problems()
    node.run(["systemctl", "stop", "faults-test"])

    node.write("/run/dnsmend/lock", "run r\nby ann@laptop\nboot b\nsince 1\nuntil 99999999\n")
    assert problems() == "the lock of run r is left, although its controller came to its end"
    assert judge.expire_lock(node) and problems() == ""

    node.write("/var/lib/dnsmend/r/dnsmasq/sums", "")
    node.write("/var/lib/dnsmend/r/timer", "dnsmend-undo-r-dnsmasq")
    said = problems()
    assert "a run still waits for its confirmation" in said and "dnsmasq/ is open, and nothing takes it back" in said


def _spoil(stage: Stage) -> None:
    stage.kill()
    stage.node.run(["sh", "-c", "echo 'port=5' >> /etc/dnsmasq.d/k8s.conf"])


@pytest.mark.lab
def test_a_controller_that_is_killed_leaves_nothing_worse(healed: Lab, node: Node, tmp_path: Path) -> None:
    known, boundaries = reference(healed, EXCEPT_LO, tmp_path)
    assert {"node-0 step dnsmasq sent", "node-0 confirm answered"} <= {each["name"] for each in boundaries}
    faults = {each.point: each for each in kills(EXCEPT_LO, boundaries)}
    inside = [
        each
        for name, each in faults.items()
        if name.startswith("node-0 step dnsmasq") and each.kind == "while the node is changed"
    ]
    for fault, state in ((inside[len(inside) // 2], "old"), (faults["node-0 confirm answered"], "new")):
        seen = play(healed, fault, known, tmp_path)
        assert (seen.worse, seen.outcomes, seen.again) == ([], {"node-0": state}, True), fault.point
        assert seen.asked and set(seen.lost) == {"node", "LAN"}
    # The same, and somebody writes into a file meanwhile: that is seen.
    at = "node-0 lock take answered"
    seen = play(healed, replace(faults[at], act=_spoil), known, tmp_path)
    assert "node-0: file /etc/dnsmasq.d/k8s.conf is neither as before nor as after a run without a fault" in seen.worse
    assert json.loads((tmp_path / "played.json").read_text())["worse"] == seen.worse
    with pytest.raises(RuntimeError, match="did not come to 'nowhere'"):
        play(healed, replace(faults[at], at="nowhere", act=kill), known, tmp_path)
    healed.heal()
