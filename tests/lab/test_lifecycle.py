"""`up` and `down`: nothing is left behind, whatever was killed in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import host, lifecycle, network, state
from lab.api import Lab
from lab.host import LabError
from tests.lab.private import private_lab, traces

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def own_lab(tmp_path: Path) -> Iterator[None]:
    """A lab of this test's own on a network of its own, so that another lab may be up; gone afterwards."""
    with private_lab(tmp_path / "lab"):
        yield


def test_up_and_down_leave_nothing() -> None:
    before = traces()
    lifecycle.up(3)
    assert traces() != before
    lifecycle.up(3)
    with pytest.raises(LabError, match="3 nodes is up"):
        lifecycle.up(4)
    assert lifecycle.down() is True
    assert traces() == before
    assert lifecycle.down() is False


def test_a_lab_that_was_built_again_is_not_mistaken_for_the_old_one() -> None:
    lifecycle.up(3)
    old = Lab.attach()
    lifecycle.down()
    with pytest.raises(LabError, match="node-0 has died, or the lab was taken down"):
        old.node("node-0").write("/etc/motd", "")
    lifecycle.up(3)
    with pytest.raises(LabError, match="attach to it anew"):
        old.inject("tool-missing-dig", "node-0")
    assert Lab.attach().node("node-0").run(["which", "dig"]).returncode == 0


def test_endpoint_routes() -> None:
    lifecycle.up(3, endpoint_routes=True)
    node = Lab.attach().node("node-0")
    pod = node.plan.pod("client")
    assert f"dev {pod.interface} " in node.run(["ip", "route", "get", pod.address]).stdout


@pytest.mark.parametrize("victim", ["leader", "supervisor"])
def test_a_dead_node_is_noticed_and_repaired(victim: str) -> None:
    lifecycle.up(3)
    record = state.load()
    assert record is not None
    machine = record.machines["node-1"]
    process = machine.leader if victim == "leader" else machine.supervisor
    assert process is not None
    node = Lab.attach().node("node-1")
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while machine.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(LabError, match="node-1 has died"):
        Lab.attach()
    if victim == "leader":
        with pytest.raises(LabError, match="has died"):
            node.run(["true"])
    lifecycle.up(3)
    assert Lab.attach().node("node-1").active("dnsmasq.service")


@pytest.mark.parametrize("seconds", [0.3, 0.5, 0.8, 1.1])
def test_a_killed_up_leaves_nothing_after_down(seconds: float) -> None:
    before = traces()
    program = subprocess.Popen([sys.executable, "-m", "lab", "up"], stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    program.kill()
    program.wait()
    lifecycle.down()
    assert traces() == before


def test_a_range_in_use_is_refused() -> None:
    host.run(["ip", "link", "add", "dnsmend-test", "type", "bridge"])
    try:
        host.run(["ip", "address", "add", "198.18.53.200/28", "dev", "dnsmend-test"])
        host.run(["ip", "link", "set", "dnsmend-test", "up"])
        with pytest.raises(LabError, match=r"198\.18\.53\.\S+ is in use on this machine"):
            lifecycle.up(3)
    finally:
        host.run(["ip", "link", "delete", "dnsmend-test"])
    assert not network.namespace("node-0").exists()


def test_the_inventory_fails_when_the_lab_is_not_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", "inventories/lab.py", "exec", "--", "true"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "the lab is not up" in done.stdout + done.stderr
