"""A node that boots with its guard: what starts, in which order, and what must not.

The node's disk is copied, and the copy booted as one more machine of the lab, on a network of its own.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator

import pytest

from lab import host, machine, network, places
from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.operations.rules import clear
from tests.operations.test_guards import backend, prevent, within

pytestmark = pytest.mark.lab

Boot = Callable[[str], Node]
COPY = "copy-of-node-0"
STAND_IN = """[Unit]
Description=stand-in
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""
KUBERNETES = ("kubelet.service", "kube-proxy.service")


@pytest.fixture
def node(healed: Lab) -> Iterator[Node]:
    """node-0 without rules, and with units of Kubernetes that start at boot."""
    node = healed.node("node-0")
    clear(node)
    for unit in KUBERNETES:
        node.write(f"/etc/systemd/system/{unit}", STAND_IN)
    node.run(["systemctl", "enable", "--quiet", *KUBERNETES])
    yield node
    clear(node)


@pytest.fixture
def boot(node: Node, healed: Lab) -> Iterator[Boot]:
    """`boot(script)` boots a copy of the node's disk, on which the script (sh, in its root) was run first."""

    def started(script: str) -> Node:
        upper = machine.prepare(COPY)
        host.run(["cp", "--archive", f"{machine.directory(node.name) / 'upper'}/.", str(upper)])
        host.run(["sh", "-ec", f'cd "$1"; {script}', "sh", str(upper)])
        network.namespace(COPY).touch()
        host.run(["unshare", f"--net={network.namespace(COPY)}", "true"])
        copy = machine.start(healed.record, COPY)
        machines = healed.record.machines | {node.name: copy}
        booted = places.node(dataclasses.replace(healed.record, machines=machines), node.plan)
        assert within(90, lambda: _up(booted)), "it does not end to boot"
        return booted

    yield started
    machine.end(healed.record, COPY)
    healed.record.machines.pop(COPY, None)
    healed.record.save()
    host.run(["umount", str(network.namespace(COPY))], check=False)
    network.namespace(COPY).unlink(missing_ok=True)
    shutil.rmtree(machine.directory(COPY), ignore_errors=True)


def _up(node: Node) -> bool:
    said = node.run(["systemctl", "is-system-running"], check=False).stdout.strip()
    return said in ("running", "degraded")


def shown(node: Node, unit: str, name: str) -> str:
    return node.run(["systemctl", "show", unit, f"--property={name}", "--value"]).stdout.strip()


def journal(node: Node, unit: str) -> str:
    node.run(["journalctl", "--sync"])
    return node.run(["journalctl", f"--unit={unit}", "--boot", "--output=cat", "--no-pager"]).stdout


#: As a package's upgrade leaves it: the link that iptables is reached by leads to the other backend.
FLIP = "mkdir -p etc/alternatives; ln -sfn /usr/sbin/iptables-legacy etc/alternatives/iptables"


@pytest.mark.parametrize("how", ["report", "block", "restore"])
def test_a_boot_with_an_alternative_that_was_flipped(node: Node, boot: Boot, pyinfra: Run, how: str) -> None:
    done = prevent(pyinfra, "--data", f"guard_boot={how}")
    assert done.returncode == 0, done.stderr
    booted = boot(FLIP)
    for unit in KUBERNETES:
        assert booted.active(unit) is (how != "block"), journal(booted, unit)
        if how == "block":
            # Never started: it waited for the guard, which failed.
            assert shown(booted, unit, "ExecMainStartTimestampMonotonic") == "0"
            assert "Dependency failed for" in journal(booted, unit)
        else:
            assert int(shown(booted, unit, "ExecMainStartTimestampMonotonic")) >= int(
                shown(booted, "dnsmend-boot.service", "ExecMainExitTimestampMonotonic")
            )
        for before in ("--before", "--after"):
            other, me = (unit, "dnsmend-boot.service") if before == "--before" else ("dnsmend-boot.service", unit)
            assert other in booted.run(["systemctl", "list-dependencies", before, "--plain", me]).stdout
    said = journal(booted, "dnsmend-boot.service")
    if how == "restore":
        assert "dnsmend: the alternative iptables is /usr/sbin/iptables-nft again" in said
        assert shown(booted, "dnsmend-boot.service", "Result") == "success"
        assert backend(booted) == (1, 0, 0, 0)
        return
    assert "dnsmend: the alternative iptables is /usr/sbin/iptables-legacy; it was /usr/sbin/iptables-nft" in said
    assert shown(booted, "dnsmend-boot.service", "Result") == "exit-code"
    if how == "block":
        # What the page says of the way out.
        booted.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-nft"])
        booted.run(["systemctl", "start", *KUBERNETES])
        assert booted.active("kubelet.service") and booted.active("kube-proxy.service")


@pytest.mark.parametrize("script", ["true", "rm -r var/lib/node_exporter"], ids=["all is well", "no metrics' folder"])
def test_a_boot_of_a_healthy_node_is_not_kept_from_anything(node: Node, boot: Boot, pyinfra: Run, script: str) -> None:
    done = prevent(pyinfra, "--data", "guard_boot=block")
    assert done.returncode == 0, done.stderr
    booted = boot(script)
    said = "the metrics cannot be written" in journal(booted, "dnsmend-boot.service")
    assert said is (script != "true")
    assert shown(booted, "dnsmend-boot.service", "Result") == "success"
    for unit in KUBERNETES:
        assert booted.active(unit)
    assert {"dnsmend-probe.timer", "dnsmend-backend.timer", "dnsmend-backend.path"} <= set(
        booted.run(["systemctl", "list-units", "--state=active", "--plain", "--no-legend", "dnsmend-*"]).stdout.split()
    )
