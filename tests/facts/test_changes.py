"""What has changed on a node: from package logs, alternatives, units, processes, files and the kernel's log."""

from __future__ import annotations

import gzip
import os
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from facts.changes import AlternativesLog, NodeClock, PackageLog
from facts.file_times import ConfigurationTimes
from facts.history import FACTS, NodeHistory
from facts.kernel_complaints import KernelComplaints
from facts.reading import NodeFact, Reading
from facts.starts import Starts
from tests.facts.test_no_side_effects import written

#: A zone that is eight hours ahead, without any zone file.
AHEAD = os.environ | {"TZ": "CST-8"}
NOW = datetime.now().astimezone()


def ask(fact: NodeFact[Any], *places: tuple[str, Path], path: Path | None = None) -> Reading[Any]:
    for before, after in places:
        fact.script = fact.script.replace(before, str(after))
    if path:
        fact.script = f"PATH={path}:$PATH\n{fact.script}"
    said = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True, env=AHEAD)
    return fact.process(said.stdout.splitlines())


def local(ago: timedelta) -> str:
    """As dpkg writes it, eight hours ahead of UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime((NOW - ago).timestamp() + 8 * 3600))


def utc(ago: timedelta) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((NOW - ago).timestamp()))


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_clock() -> None:
    reading = ask(NodeClock())
    clock = reading["value"]
    assert reading["state"] == "value", reading
    assert abs(clock["now"] - time.time()) < 60
    assert clock["offset"] == "+0800"
    assert clock["boot"] <= utc(timedelta(0))


def test_dpkgs_log_with_its_older_ones(tmp_path: Path) -> None:
    (tmp_path / "dpkg.log").write_text(
        f"{local(HOUR)} startup archives unpack\n"
        f"{local(HOUR)} upgrade dnsmasq-base:amd64 2.89-1 2.90-4~deb12u1\n"
        f"{local(HOUR)} status half-configured dnsmasq-base:amd64 2.89-1\n"
        f"{local(HOUR)} remove cron:amd64 3.0 <none>\n"
    )
    (tmp_path / "dpkg.log.1").write_text(f"{local(2 * DAY)} install iptables:amd64 <none> 1.8.9-2\n")
    old = f"{local(40 * DAY)} install vim:amd64 <none> 9\n{local(5 * DAY)} install jq:amd64 <none> 1.6\n"
    (tmp_path / "dpkg.log.2.gz").write_bytes(gzip.compress(old.encode()))
    reading = ask(PackageLog(), ("/var/log", tmp_path))
    assert [(one["time"], one["action"], one["package"], one["before"], one["after"]) for one in reading["value"]] == [
        (utc(5 * DAY), "install", "jq:amd64", "", "1.6"),
        (utc(2 * DAY), "install", "iptables:amd64", "", "1.8.9-2"),
        (utc(HOUR), "upgrade", "dnsmasq-base:amd64", "2.89-1", "2.90-4~deb12u1"),
        (utc(HOUR), "remove", "cron:amd64", "3.0", ""),
    ]


def test_rpm_where_there_is_no_dpkg_log(tmp_path: Path) -> None:
    recent, old = int((NOW - HOUR).timestamp()), int((NOW - 40 * DAY).timestamp())
    tool(tmp_path, "rpm", f"echo '{recent} dnsmasq 2.90-1.el9'; echo '{old} bash 5.1-6.el9'")
    reading = ask(PackageLog(), ("/var/log", tmp_path), path=tmp_path)
    assert reading["value"] == [
        {
            "time": utc(HOUR),
            "action": "install",
            "package": "dnsmasq",
            "before": "",
            "after": "2.90-1.el9",
            "source": "rpm -qa",
        }
    ]


def test_a_dpkg_log_that_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "dpkg.log").write_text("9999-99-99 99:99:99 install a:b c d\n")
    assert ask(PackageLog(), ("/var/log", tmp_path))["state"] in ("failed", "empty")


def test_alternatives(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "iptables").symlink_to("/usr/sbin/iptables-legacy")
    (tmp_path / "alternatives.log").write_text(
        f"update-alternatives {local(HOUR)}: run with --set iptables /usr/sbin/iptables-legacy\n"
        f"update-alternatives {local(HOUR)}: link group iptables updated to point to /usr/sbin/iptables-legacy\n"
        f"update-alternatives {local(HOUR)}: link group editor updated to point to /usr/bin/vi\n"
        f"update-alternatives {local(40 * DAY)}: link group iptables updated to point to /usr/sbin/iptables-nft\n"
    )
    reading = ask(AlternativesLog(), ("/etc/alternatives", tmp_path / "etc"), ("/var/log", tmp_path))
    assert [(one["name"], one["text"]) for one in reading["value"]] == [
        ("iptables", "leads to /usr/sbin/iptables-legacy"),
        ("iptables", "run with --set iptables /usr/sbin/iptables-legacy"),
        ("iptables", "link group iptables updated to point to /usr/sbin/iptables-legacy"),
    ]
    assert reading["value"][2]["time"] == utc(HOUR)


SYSTEMCTL = """cat <<END
Id=dnsmasq.service
LoadState=loaded
ActiveState=active
NRestarts=2
ActiveEnterTimestamp=Sun 2026-11-22 03:16:15 UTC
InactiveEnterTimestamp=Sun 2026-11-22 03:16:14 UTC

Id=kubelet.service
LoadState=loaded
ActiveState=failed
InactiveEnterTimestamp=Sun 2026-11-22 03:17:00 UTC
ActiveEnterTimestamp=Sun 2026-11-22 03:16:00 UTC

Id=named.service
LoadState=not-found
ActiveState=inactive
ActiveEnterTimestamp=
InactiveEnterTimestamp=
END
[ "$TZ" = UTC ]"""


def test_units_and_processes(tmp_path: Path) -> None:
    tool(tmp_path, "systemctl", SYSTEMCTL)
    tool(tmp_path, "ps", "echo '   3600 coredns'; echo '   5 bash'; echo '  60 coredns-like'")
    (tmp_path / "run").mkdir()
    reading = ask(Starts(), ("/run/systemd/system", tmp_path / "run"), path=tmp_path)
    assert reading["state"] == "value", reading
    process, *units = reading["value"]
    assert (process["name"], process["what"]) == ("coredns", "started")
    assert units == [
        {"time": "2026-11-22T03:16:15Z", "what": "started", "name": "dnsmasq.service", "restarts": 2},
        {"time": "2026-11-22T03:17:00Z", "what": "failed", "name": "kubelet.service", "restarts": 0},
    ]


def test_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "dnsmasq.d"
    folder.mkdir()
    copied = folder / "a name.conf"
    copied.write_text("x")
    os.utime(copied, (1_500_000_000, 1_500_000_000))
    reading = ask(ConfigurationTimes(), ("/etc/dnsmasq.d", folder))
    found = {one["path"]: one for one in reading["value"] if one["path"].startswith(str(tmp_path))}
    assert set(found) == {str(folder), str(copied)}
    assert found[str(folder)]["folder"] and not found[str(copied)]["folder"]
    assert found[str(copied)]["modified"] == "2017-07-14T02:40:00Z"
    assert found[str(copied)]["changed"] >= utc(HOUR)


def test_the_kernels_complaints(tmp_path: Path) -> None:
    up = float(Path("/proc/uptime").read_text().split()[0])
    log = (
        f"[{up - 7200:12.6f}] nf_conntrack: nf_conntrack: table full, dropping packet\n"
        f"[{up - 3600:12.6f}] nf_conntrack: nf_conntrack: table full, dropping packet\n"
        f"[{up - 60:12.6f}] Out of memory: Killed process 4242 (coredns) total-vm:1kB\n"
        "table full without a time: nf_conntrack: table full\n"
    )
    (tmp_path / "log").write_text(log)
    tool(tmp_path, "dmesg", f"cat {tmp_path}/log")
    full, memory = ask(KernelComplaints(), path=tmp_path)["value"]
    assert (full["about"], full["times"]) == ("conntrack table full", 2)
    assert abs(datetime.fromisoformat(full["first"]).timestamp() - (time.time() - 7200)) < 60
    assert full["last"] > full["first"]
    assert memory["line"] == "Out of memory: Killed process 4242 (coredns) total-vm:1kB"
    tool(tmp_path, "dmesg", "echo 'dmesg: read kernel buffer failed: Operation not permitted' >&2; exit 1")
    assert ask(KernelComplaints(), path=tmp_path)["state"] == "not permitted"


def test_all_of_it_is_one_command() -> None:
    said = subprocess.run(["sh", "-c", NodeHistory().command()], capture_output=True, text=True, check=True)
    history = NodeHistory().process(said.stdout.splitlines())
    assert list(history) == list(FACTS)
    assert {reading["state"] for reading in history.values()} <= {"value", "empty", "not permitted"}  # type: ignore[index]


def test_reading_the_past_writes_nothing() -> None:
    said, paths = written(NodeHistory().command())
    assert said.count("!@code 0") == len(FACTS)
    assert paths == []


@pytest.mark.parametrize("seconds", ["nan", "1e30", "x"])
def test_a_time_that_is_none(seconds: str) -> None:
    reading = ConfigurationTimes().reading({"output": [f"{seconds} 1 regular file/x"], "errors": [], "code": 0})
    assert reading["state"] == "failed"
