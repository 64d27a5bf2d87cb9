"""What a run holds is renewed in time, whatever one node does, and only as long as it is held."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from operations import lease, lock

RUN = "20261122T080000Z-abcd"
OTHER = "20261122T090000Z-abcd"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What this process holds: nothing yet."""
    fresh = lock._Held()
    monkeypatch.setattr(lock, "_held", fresh)
    yield fresh


def hosts(count: int) -> dict[str, Any]:
    state = SimpleNamespace(config=SimpleNamespace(PARALLEL=200))
    return {f"node-{number}": SimpleNamespace(name=f"node-{number}", state=state) for number in range(count)}


def test_nodes_that_hang_do_not_hold_up_the_others(held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held.hosts = hosts(100)
    renewed: list[str] = []

    def ask(host: Any, verb: str, run: str) -> str:
        gevent.sleep(0.2)
        renewed.append(host.name)
        return "held"

    monkeypatch.setattr(lock, "_ask", ask)
    began = time.monotonic()
    lock._renew(RUN)
    assert sorted(renewed) == sorted(held.hosts) and time.monotonic() - began < 2


def test_what_is_lost_is_said_once_and_what_is_let_go_of_is_not(
    held: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held.hosts = hosts(4)
    held.leaving = {"node-0"}
    asked: list[str] = []

    def ask(host: Any, verb: str, run: str) -> str:
        asked.append(host.name)
        if host.name == "node-1":
            del held.hosts["node-1"]
        return "held" if host.name == "node-3" else "refused: it is lost"

    monkeypatch.setattr(lock, "_ask", ask)
    for _ in range(2):
        lock._renew(RUN)
    assert asked.count("node-0") == 0 and asked.count("node-2") == 1 and asked.count("node-3") == 2
    assert sorted(held.hosts) == ["node-0", "node-3"]
    assert [record.getMessage() for record in caplog.records] == ["node-2: this run has lost its lock: it is lost"]


def test_a_lease_that_is_released_while_it_is_renewed_is_free(held: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    held.lease = ("kubectl", "kube-system")
    done: list[str] = []

    def take(*_: object) -> str:
        held.lease = None
        done.append("taken")
        return ""

    monkeypatch.setattr(lease, "take", take)
    monkeypatch.setattr(lease, "release", lambda *_: done.append("released"))
    monkeypatch.setattr(lock, "_RENEWAL", 0)
    lock._renewing_lease(RUN)
    assert done == ["taken", "released"]


def ask(folder: Path, verb: str, run: str = RUN) -> str:
    """What the node's script says, with this folder in the place of /run."""
    script = lock.script(run).replace("/run/dnsmend", f"{folder}/dnsmend").replace("/var/lib", f"{folder}/lib")
    done = subprocess.run(["sh", "-c", script, "-", verb], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_renewal_makes_no_lock(tmp_path: Path) -> None:
    lost = "refused: it is lost: released, or gone with a boot"
    assert ask(tmp_path, "renew") == lost and not (tmp_path / "dnsmend").exists()
    assert [ask(tmp_path, verb) for verb in ("take", "renew", "release", "renew")] == [
        "taken",
        "held",
        "released",
        lost,
    ]
    assert not (tmp_path / "dnsmend").exists()


def test_a_renewal_takes_over_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path, "take", OTHER) == "taken"
    path = tmp_path / "dnsmend" / "lock"
    assert ask(tmp_path, "renew").startswith(f"refused: run {OTHER} of ")
    path.write_text("\n".join("until 1" if line.startswith("until") else line for line in path.read_text().split("\n")))
    assert ask(tmp_path, "renew").startswith("refused: it is lost") and f"run {OTHER}\n" in path.read_text()
    # Its own is good again, if nobody has taken it meanwhile.
    assert ask(tmp_path, "renew", OTHER) == "held" and "until 1\n" not in path.read_text()
    assert ask(tmp_path, "take").startswith("refused: run")
