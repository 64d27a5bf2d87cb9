"""What changed, and what CoreDNS logged, as real nodes tell it: over ssh, in one exec per node."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pyinfra.api.host import Host

from checks.timeline import timeline
from deploys import evidence
from lab.api import Lab
from lab.places import Node

pytestmark = pytest.mark.lab

LOG = "/var/log/pods/kube-system_coredns-7c9d-abcde_uid/coredns/0.log"
LINE = "{} stdout F [ERROR] plugin/errors: 2 google.com. A: read udp 172.26.2.53:44444->172.25.4.1:53: i/o timeout\n"


@pytest.fixture
def node(healed: Lab) -> Iterator[Node]:
    place = healed.node("node-0")
    yield place
    place.run(["rm", "-rf", "/var/log/pods", "/etc/dnsmasq.d/zz-test.conf"])
    place.run(["update-alternatives", "--auto", "iptables"])


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_the_causes_stand_before_the_failure(reached_all: list[Host], node: Node) -> None:
    began = now()
    node.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy"])
    node.run(["sleep", "1.1"])
    node.write("/etc/dnsmasq.d/zz-test.conf", "# nothing\n")
    node.run(["sleep", "1.1"])
    node.run(["systemctl", "restart", "dnsmasq"])
    node.run(["sleep", "1.1"])
    stamp = now()
    node.write(LOG, LINE.format(stamp) * 3)

    read = evidence.histories(reached_all)
    assert list(read) == ["node-0", "node-1", "node-2"]
    # A lab that was made just now is a node that was booted just now, with all of its files.
    history = read["node-0"]
    assert history and history["clock"]["value"]
    history["clock"]["value"]["boot"] = "2026-01-01T00:00:00Z"
    history["files"]["value"] = [each for each in history["files"]["value"] if each["changed"] >= began]
    found = timeline(read, [], now())
    told = [event["what"] for event in found["events"] if event["node"] == "node-0" and event["time"] >= began]
    places = [
        next(number for number, what in enumerate(told) if what.startswith(words))
        for words in (
            "alternative iptables: updated to point to /usr/sbin/iptables-legacy",
            "/etc/dnsmasq.d/zz-test.conf changed",
            "dnsmasq.service started",
            "first failure: CoreDNS kube-system/coredns-7c9d-abcde: no answer from 172.25.4.1:53 over UDP, 3 times",
        )
    ]
    assert places == sorted(places), told
    # Containers share the machine's clock.
    assert not any("clock" in note for note in found["notes"])
    assert evidence.coredns(read)["sentences"] == [
        f"node-0 kube-system/coredns-7c9d-abcde: no answer from 172.25.4.1:53 over UDP: 3 times, {stamp} to {stamp}"
    ]


def test_a_healthy_node_has_no_failure(reached: Host, node: Node) -> None:
    read = evidence.histories([reached])
    found = timeline(read, [], now())
    assert not any("failure" in event["what"] for event in found["events"])
    assert any(event["what"] == "the node started" for event in found["events"])
    assert evidence.coredns(read)["complaints"] == []


def test_a_clock_that_is_off(reached: Host, node: Node) -> None:
    """Containers have the machine's clock: date(1) of the node says another time."""
    node.run(["mv", "/usr/bin/date", "/usr/bin/date.real"])
    node.write(
        "/usr/bin/date", '#!/bin/sh\ncase $* in *%N*) set -- -d "+1 hour" "$@" ;; esac\nexec date.real "$@"\n', 0o755
    )
    try:
        notes = timeline(evidence.histories([reached]), [], now())["notes"]
    finally:
        node.run(["mv", "/usr/bin/date.real", "/usr/bin/date"])
    (note,) = [note for note in notes if "clock" in note]
    assert "s ahead of the controller's" in note


def test_nothing_remains(reached: Host, node: Node) -> None:
    places = ["/tmp", "/var/tmp", "/etc", "/var/log", "/var/lib"]
    node.run(["touch", "/run/evidence-test"])
    evidence.histories([reached])
    newer = node.run(["find", *places, "-newer", "/run/evidence-test", "-not", "-path", "/var/log/*"]).stdout.split()
    node.remove("/run/evidence-test")
    assert newer == []
