"""What a node keeps of runs, as its shell prints it."""

from __future__ import annotations

import pytest

from facts.runs import Runs, UndoPlan

OUTPUT = [
    "step proven 20261122T080000Z-1f3a dnsmasq",
    "number 2",
    "wave 3",
    "time 1795334400",
    "by ann@laptop, process 7",
    "what pod 172.26.2.145 -> 172.25.4.1 UDP is not answered",
    "booted",
    "step undone 20261122T080000Z-1f3a netfilter-hints",
    "number 1",
    "reason not confirmed within 180 s",
    "step open first sysctl",
]


def test_steps() -> None:
    found = Runs().read(OUTPUT)
    assert [(each["run"][-4:], each["step"], each["number"], each["wave"]) for each in found] == [
        ("1f3a", "dnsmasq", 2, 3),
        ("1f3a", "netfilter-hints", 1, 0),
        ("irst", "sysctl", 0, 0),
    ]
    assert [(each["state"], each["booted"], each["reason"]) for each in found] == [
        ("proven", True, ""),
        ("undone", False, "not confirmed within 180 s"),
        ("open", False, ""),
    ]
    assert found[0]["by"] == "ann@laptop, process 7" and found[0]["what"].startswith("pod 172.26.2.145 -> ")
    assert Runs().read([]) == []


@pytest.mark.parametrize("line", ["number 1", "step half run dnsmasq", "step open run", "wave x"])
def test_what_no_node_prints_is_no_reading(line: str) -> None:
    lines = [line] if not line.startswith("wave") else [*OUTPUT, line]
    section = {"output": lines, "errors": [], "code": 0}
    assert Runs().reading(section)["state"] == "failed"  # type: ignore[arg-type]


def test_the_way_back() -> None:
    lines = ["do dnsmasq: rm /etc/dnsmasq.d/dnsmend.conf", "refused sysctl: x has changed", "something else"]
    assert UndoPlan().read(lines) == {
        "does": ["dnsmasq: rm /etc/dnsmasq.d/dnsmend.conf"],
        "refused": ["sysctl: x has changed"],
    }
    assert "/var/lib/dnsmend/first/run.sh plan" in UndoPlan().command(run="first")
