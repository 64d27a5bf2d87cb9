"""One run at a time: of many only one gets a node, the others learn whose it is, and what a dead one left runs out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.api import Lab
from lab.places import Node
from operations import lock

pytestmark = pytest.mark.lab


@pytest.fixture
def free(lab: Lab) -> Iterator[Node]:
    node = lab.node("node-0")
    node.run(["rm", "-rf", "/run/dnsmend", "/var/lib/dnsmend"])
    yield node
    node.run(["rm", "-rf", "/run/dnsmend", "/var/lib/dnsmend"])


def ask(node: Node, verb: str, run: str, ttl: int = 60, by: str = "ann@laptop, process 7", undoing: str = "") -> str:
    return node.run(["sh", "-c", lock.script(run, undoing, by, ttl), "-", verb]).stdout.strip()


def test_taken_renewed_released(free: Node) -> None:
    assert ask(free, "take", "a") == "taken"
    assert ask(free, "take", "a") == ask(free, "renew", "a") == "held"
    modes = free.run(["stat", "-c", "%a %U", "/run/dnsmend", "/run/dnsmend/lock"]).stdout.split("\n")
    assert modes[:2] == ["700 root", "600 root"]
    assert ask(free, "release", "b") == "not ours"
    assert ask(free, "release", "a") == "released"
    assert free.run(["test", "-e", "/run/dnsmend"], check=False).returncode == 1
    assert ask(free, "release", "a") == "not ours"


def test_another_one_learns_whose_it_is(free: Node) -> None:
    ask(free, "take", "a", by="ann@laptop, process 7")
    for verb in ("take", "renew"):
        said = ask(free, verb, "b")
        found = re.fullmatch(
            r"refused: run a of ann@laptop, process 7 holds this node since (\S+Z), until (\S+Z) unless it renews that",
            said,
        )
        assert found and found[1] < found[2], said
    assert ask(free, "renew", "a") == "held"


def test_a_user_with_a_backslash_holds_it_too(free: Node) -> None:
    """sh's echo may end at "\\c": without the lines after it, nobody would hold anything."""
    for verb, said in (("take", "taken"), ("renew", "held")):
        assert ask(free, verb, "a", by=r"CORP\carl@laptop, process 7") == said
    assert ask(free, "take", "b").startswith(r"refused: run a of CORP\carl@laptop, process 7 holds this node since ")


@pytest.mark.parametrize("stale", [False, True])
def test_of_twenty_at_once_one_wins(free: Node, stale: bool) -> None:
    if stale:
        ask(free, "take", "dead", ttl=0)
        time.sleep(1)
    with ThreadPoolExecutor(20) as pool:
        said = list(pool.map(lambda number: ask(free, "take", f"run-{number}"), range(20)))
    won = [each for each in said if each.startswith("taken")]
    assert len(won) == 1 and sum(each.startswith("refused: run run-") for each in said) == 19
    assert won[0] == ("taken over: the lock of run dead of ann@laptop, process 7 had run out" if stale else "taken")


def test_a_lock_of_another_boot_is_none(free: Node) -> None:
    ask(free, "take", "a")
    free.run(["sed", "-i", "s/^boot .*/boot 00000000-0000-0000-0000-000000000000/", "/run/dnsmend/lock"])
    assert ask(free, "take", "b") == "taken over: the lock of run a of ann@laptop, process 7 had run out"


@pytest.mark.parametrize("text", ["", "run a\n", "run a\nuntil soon\n", "\x00" * 64, "run a\nuntil -5\n"])
def test_what_is_no_lock_is_taken_over(free: Node, text: str) -> None:
    free.write("/run/dnsmend/lock", text)
    assert ask(free, "take", "b").startswith("taken over")


def test_the_clock_does_not_move_it(free: Node) -> None:
    """Its end is in seconds since boot: the times of the sentence are all that a clock changes."""
    ask(free, "take", "a", ttl=60)
    held = free.read("/run/dnsmend/lock")
    up = float(free.read("/proc/uptime").split()[0])
    until = int(re.search(r"^until (\d+)$", held, re.MULTILINE)[1])  # type: ignore[index]
    assert 0 < until - up <= 60


def test_what_waits_for_its_confirmation_is_not_built_upon(free: Node) -> None:
    name = "dnsmend-undo-a-dnsmasq"
    free.run(["mkdir", "-p", "/var/lib/dnsmend/a"])
    free.write("/var/lib/dnsmend/a/timer", f"{name}\n")
    free.run(["systemd-run", "--quiet", f"--unit={name}", "--on-active=600", "true"])
    try:
        said = ask(free, "take", "b")
        assert re.match(
            r"refused: run a has changed this node, and nobody has confirmed it: the node takes it back at \w+ "
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+ \(or now: deploys/undo.py --data run=a\)",
            said,
        ), said
        assert ask(free, "take", "b", undoing="a") == "taken"
        ask(free, "release", "b")
        assert ask(free, "take", "a") == "taken"
        ask(free, "release", "a")
    finally:
        free.run(["systemctl", "stop", f"{name}.timer"])
    # A timer that is gone (after a boot, say) stands in nobody's way.
    assert ask(free, "take", "b") == "taken"
