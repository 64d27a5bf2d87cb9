"""What happened on the nodes, put in one order with the failures."""

from __future__ import annotations

from typing import Any

from checks.diagnosis import Event, Hop
from checks.timeline import MOST, timeline
from facts.changes import Package
from facts.file_times import FileTimes
from facts.history import FACTS, History

STARTED = "2026-11-22T04:00:00Z"


def history(**values: Any) -> History:
    """A node that started days ago; nothing has changed but what is given."""
    read: Any = {
        name: {"state": "value" if values.get(name) else "empty", "value": values.get(name, []), "detail": ""}
        for name in FACTS
    }
    clock = {"now": 1795320000.0, "offset": "+0800", "boot": "2026-11-10T00:00:00Z"} | values.get("clock", {})
    read["clock"] = {"state": "value", "value": clock, "detail": ""}
    found: History = read
    return found


def told(*args: Any, hops: tuple[Hop, ...] = (), **values: Any) -> list[str]:
    events = timeline({"node-0": history(**values)}, hops, STARTED)["events"]
    return [f"{event['time'][11:19]} {event['what']}" for event in events if event["what"] != "the node started"]


def file(path: str, changed: str, modified: str = "", folder: bool = False) -> FileTimes:
    return {"path": path, "folder": folder, "changed": day(changed), "modified": day(modified or changed)}


def package(name: str, time: str) -> Package:
    return {
        "time": day(time),
        "action": "upgrade",
        "package": name,
        "before": "1",
        "after": "2",
        "source": "/var/log/dpkg.log",
    }


def day(clock: str) -> str:
    return f"2026-11-22T{clock}Z"


def started(name: str, time: str, what: str = "started", restarts: int = 0) -> dict[str, object]:
    return {"time": day(time), "what": what, "name": name, "restarts": restarts}


def complaint(first: str, since: str, times: int = 10, spell: int = 10) -> dict[str, object]:
    text = "plugin/errors: read udp 10.244.0.5->172.25.4.1:53: i/o timeout"
    return {
        "file": "pods/kube-system_coredns-x_uid/coredns/0.log",
        "pod": "kube-system/coredns-x",
        "level": "ERROR",
        "text": text,
        "example": text,
        "times": times,
        "first": day(first),
        "last": day("03:50:00"),
        "since": day(since),
        "spell": spell,
    }


HOP: Hop = {
    "id": "node-0/pod 10.244.0.9/172.25.4.1:53",
    "stage": "endpoint to upstream",
    "node": "node-0",
    "source": "pod 10.244.0.9",
    "destination": "172.25.4.1",
    "port": 53,
    "owner": "node-0",
    "because": [],
    "losses": [
        {
            "protocol": "udp",
            "name": "google.com",
            "sent": 20,
            "lost": 20,
            "unknown": 0,
            "low": 0.8,
            "high": 1.0,
            "outcomes": {"timeout": 20},
            "median_ms": None,
            "slowest_ms": None,
        }
    ],
    "state": "loses",
}


def test_the_incident_reads_from_its_cause_to_its_failure() -> None:
    assert told(
        hops=(HOP,),
        files=[file("/etc/dnsmasq.d/k8s.conf", "03:00:00"), file("/etc/dnsmasq.d", "03:00:01", folder=True)],
        starts=[started("dnsmasq.service", "03:00:05"), started("kubelet.service", "02:00:00", restarts=3)],
        packages=[package("dnsmasq-base:amd64", "02:59:00")],
        coredns=[complaint("03:00:06", "03:00:06")],
    ) == [
        "02:00:00 kubelet.service started, systemd restarted it 3 times before that",
        "02:59:00 packages: upgrade dnsmasq-base:amd64 1 -> 2",
        "03:00:00 /etc/dnsmasq.d/k8s.conf changed",
        "03:00:05 dnsmasq.service started",
        "03:00:06 first failure: CoreDNS kube-system/coredns-x: no answer from 172.25.4.1:53 over UDP, "
        "10 times until 2026-11-22T03:50:00Z",
        "04:00:00 pod 10.244.0.9 -> 172.25.4.1:53: UDP google.com 20 of 20 lost",
    ]


def test_a_change_stands_before_the_start_and_the_failure_of_its_second() -> None:
    alternative = {"name": "iptables", "text": "link group iptables updated to point to /usr/sbin/iptables-nft"}
    assert told(
        starts=[started("kubelet.service", "03:00:00")],
        coredns=[complaint("03:00:00", "03:00:00")],
        alternatives=[alternative | {"time": day("03:00:00"), "source": "/var/log/alternatives.log"}],
    ) == [
        "03:00:00 alternative iptables: updated to point to /usr/sbin/iptables-nft",
        "03:00:00 kubelet.service started",
        "03:00:00 first failure: CoreDNS kube-system/coredns-x: no answer from 172.25.4.1:53 over UDP, "
        "10 times until 2026-11-22T03:50:00Z",
    ]


def test_an_alternative_is_told_once() -> None:
    link = {"time": day("03:00:01"), "name": "iptables", "text": "leads to /x", "source": "/etc/alternatives/iptables"}
    call = {"time": day("03:00:00"), "name": "iptables", "text": "run with --set iptables /x", "source": "log"}
    again = {
        "time": day("03:30:00"),
        "name": "ip6tables",
        "text": "leads to /y",
        "source": "/etc/alternatives/ip6tables",
    }
    assert told(alternatives=[link, call, again]) == [
        "03:00:00 alternative iptables: run with --set iptables /x",
        "03:30:00 alternative ip6tables: leads to /y",
    ]


def test_a_failure_begins_with_its_last_spell() -> None:
    (text,) = told(coredns=[complaint("01:00:00", "03:40:00", times=15, spell=10)])
    assert text.startswith("03:40:00 first failure: ")
    assert text.endswith(", 10 times until 2026-11-22T03:50:00Z; 5 times before, since 2026-11-22T01:00:00Z")


def test_what_a_boot_starts_is_not_told() -> None:
    starts = [started("dnsmasq.service", "03:00:30"), started("kubelet.service", "03:04:00")]
    assert told(clock={"boot": day("03:00:00")}, starts=starts) == ["03:04:00 kubelet.service started"]


def test_a_run_of_a_package_manager_is_one_event() -> None:
    others = [package(f"lib{number}:amd64", f"02:00:{number:02}") for number in range(30)]
    assert told(packages=[*others, package("systemd:amd64", "02:01:00"), package("jq:amd64", "03:00:00")]) == [
        "02:00:00 packages: upgrade systemd:amd64 1 -> 2, 30 other packages",
        "03:00:00 packages: 1 packages",
    ]


def test_many_files_are_one_event_and_the_resolvers_are_named_first() -> None:
    files = [file(f"/etc/sysctl.d/{number}.conf", f"02:00:{number:02}") for number in range(9)]
    assert told(files=[*files, file("/etc/dnsmasq.d/k8s.conf", "02:00:30")]) == [
        "02:00:00 10 configuration files changed within minutes: /etc/dnsmasq.d/k8s.conf, /etc/sysctl.d/0.conf, "
        "/etc/sysctl.d/1.conf, /etc/sysctl.d/2.conf ..."
    ]


def test_files_that_were_removed_or_put_in_place() -> None:
    assert told(
        files=[
            file("/etc/dnsmasq.d", "02:00:00", folder=True),
            file("/etc/resolv.conf", "03:00:00", modified="01:00:00"),
        ]
    ) == [
        "02:00:00 /etc/dnsmasq.d: a file was added, removed or renamed",
        "03:00:00 /etc/resolv.conf was put in place, or its owner or mode changed (content of 2026-11-22T01:00:00Z)",
    ]


def test_a_failed_unit_and_the_kernels_complaints() -> None:
    kernel = {"about": "conntrack table full", "times": 4, "line": "nf_conntrack: table full"}
    assert told(
        starts=[started("dnsmasq.service", "02:00:00", "failed")],
        kernel=[kernel | {"first": day("01:00:00"), "last": day("01:30:00")}],
    ) == [
        "01:00:00 first failure: the kernel: conntrack table full, 4 times until 2026-11-22T01:30:00Z",
        "02:00:00 dnsmasq.service failed",
    ]


def test_what_is_too_old_is_left_out() -> None:
    old: list[Any] = [started("dnsmasq.service", "03:00:00") | {"time": "2026-11-07T03:59:59Z"}]
    assert told(starts=old) == []


def test_the_timeline_is_bounded_and_failures_stay() -> None:
    histories = {
        f"node-{number}": history(starts=[started("dnsmasq.service", f"02:{number // 60:02}:{number % 60:02}")])
        for number in range(300)
    }
    found = timeline(histories | {"node-x": history(coredns=[complaint("01:00:00", "01:00:00")])}, [], STARTED)
    assert len(found["events"]) == MOST
    assert found["events"][0]["what"].startswith("first failure: ")
    assert found["events"][-1]["node"] == "node-299"
    assert found["notes"] == [f"the timeline has its newest {MOST} events only"]


def skewed(now: float, asked: float, had: float) -> list[str]:
    read = history(clock={"now": now})
    read["heard"] = (asked, had)
    return timeline({"node-0": read}, [], STARTED)["notes"]


def test_a_clock_that_is_off_is_said() -> None:
    assert skewed(1000, 999, 1001) == skewed(1002.9, 999, 1001) == skewed(997.1, 999, 1001) == []
    assert skewed(1038, 999, 1001) == ["node-0: its clock is 37 s ahead of the controller's, and so are its times here"]
    assert skewed(979, 999, 1001) == ["node-0: its clock is 20 s behind the controller's, and so are its times here"]


def test_what_could_not_be_read_is_said() -> None:
    read = history()
    read["packages"] = {"state": "tool missing", "value": [], "detail": "neither dpkg nor rpm"}
    read["coredns"] = {"state": "empty", "value": [], "detail": "truncated: 12 of 14 files"}
    assert timeline({"node-0": read, "node-1": None}, [], STARTED)["notes"] == [
        "node-0: packages: tool missing: neither dpkg nor rpm",
        "node-0: coredns: truncated: 12 of 14 files",
        "node-1: what changed there is not known: the node could not be read",
    ]


def test_a_healthy_fleet_has_no_failure() -> None:
    well: Hop = HOP | {"state": "ok", "losses": [HOP["losses"][0] | {"lost": 0}]}
    events: list[Event] = timeline({"node-0": history()}, [well], STARTED)["events"]
    assert [event["what"] for event in events] == ["the node started"]
