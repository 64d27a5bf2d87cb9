"""EXAMPLE-001 on a recorded node that was bent, and on a real one with the fault and without it."""

from __future__ import annotations

import pytest
from pyinfra.api.host import Host

from checks import example_001
from checks.case import Case
from checks.finding import Finding, Status
from facts import snapshot
from lab.api import Lab
from tests.models import fleets
from tests.models.fleets import Fleet

FOUR = ("172.25.4.1", "172.25.4.2", "172.25.4.3", "192.0.2.53")


def judged(fleet: Fleet) -> Finding:
    (finding,) = example_001.check(Case("node-0", fleet, [], []))
    return finding


def with_servers(*servers: str) -> Fleet:
    fleet = fleets.recorded()
    read = fleet["node-0"]["resolv_conf"]["value"]
    assert read is not None
    read["nameservers"] = list(servers)
    return fleet


def test_three_are_asked() -> None:
    assert judged(with_servers(*FOUR[:3]))["status"] == Status.PASS


def test_the_fourth_is_named() -> None:
    finding = judged(with_servers(*FOUR))
    assert (finding["status"], finding["operation"]) == (Status.FAIL, "example.name_servers")
    assert finding["sentence"] == "192.0.2.53 in /etc/resolv.conf is never asked: only the first 3 are"
    assert finding["evidence"][3] == "nameserver 192.0.2.53"


def test_none_is_no_matter() -> None:
    fleet = fleets.recorded()
    fleet["node-0"]["resolv_conf"] = fleets.reading(None)
    assert judged(fleet)["status"] == Status.SKIP


def test_what_could_not_be_read_is_unknown() -> None:
    fleet = fleets.recorded()
    fleet["node-0"]["resolv_conf"]["state"] = "timed out"
    assert judged(fleet)["status"] == Status.UNKNOWN


@pytest.mark.lab
def test_it_fires_on_a_node_with_the_fault_only(healed: Lab, reached: Host) -> None:
    def now() -> Status:
        snapshot.forget(reached)
        return judged({reached.name: snapshot.fleet([reached])[reached.name]})["status"]  # type: ignore[dict-item]

    assert now() == Status.PASS
    node = healed.node("node-0")
    node.remove("/etc/resolv.conf")
    node.write("/etc/resolv.conf", "".join(f"nameserver {server}\n" for server in FOUR))
    assert now() == Status.FAIL
