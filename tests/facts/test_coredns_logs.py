"""CoreDNS's complaints, from files as containerd and Docker write them, and from crictl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from facts import coredns_logs
from facts.coredns_logs import CoreDnsLogs, LogGroup, of_kubectl
from facts.reading import Reading
from models.coredns_log import complaints

CRI = """\
2026-11-22T11:00:00.1+08:00 stdout F .:53
2026-11-22T11:00:00.1+08:00 stdout F [INFO] plugin/reload: Running configuration SHA512 = 1335ba7188be742fe37
2026-11-22T11:00:01.123456789+08:00 stdout F [ERROR] plugin/errors: 2 google.com. A: read udp 10.244.0.5:44444->172.25.4.1:53: i/o timeout
2026-11-22T11:00:02.123456789+08:00 stdout F [ERROR] plugin/errors: 2 zju.edu.cn. AAAA: read udp 10.244.0.5:44445->172.25.4.1:53: i/o timeout
2026-11-22T11:00:03.1+08:00 stdout F [ERROR] plugin/errors: 2 4547991504243258144.3688648895315093531. HINFO: read udp 10.244.0.5:5->172.25.4.1:53: i/o timeout
2026-11-22T11:00:33.0+08:00 stdout F [ERROR] plugin/errors: 15 errors like '^read udp .* i/o timeout$' occurred in last 30s
2026-11-22T11:01:03.0+08:00 stdout F [ERROR] plugin/errors: 7 errors like '^read udp .* i/o timeout$' occurred in last 30s
2026-11-22T11:01:06.0+08:00 stdout F [FATAL] plugin/loop: Loop (127.0.0.1:34536 -> :53) detected for zone ".", see https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO 4547991504243258144.3688648895315093531."
2026-11-22T11:01:07.0+08:00 stderr F E1122 03:01:07.049977       1 reflector.go:205] client-go/tools/cache/reflector.go:229: Failed to watch *v1.Service: Get "https://10.32.0.1:443/api": dial tcp 10.32.0.1:443: i/o timeout
not a line of any log [ERROR] plugin/errors: 2 a. A: EOF
"""  # noqa: E501
DOCKER = r"""{"log":"2018/11/21 06:48:51 [ERROR] 2 cassandra.internal. A: unreachable backend: read udp 10.244.0.148:48568-\u003e10.96.0.10:53: i/o timeout\n","stream":"stdout","time":"2018-11-21T06:48:51.1234Z"}
{"log":"[FATAL] plugin/loop: Seen \"HINFO IN 4547991504243258144.3688648895315093531.\" to 10.2.3.4:53 more than twice, loop detected\n","stream":"stdout","time":"2018-11-21T06:48:53.1234Z"}
"""  # noqa: E501


def ask(folder: Path, path: Path | None = None) -> Reading[list[LogGroup]]:
    fact = CoreDnsLogs()
    fact.script = fact.script.replace("/var/log", str(folder))
    if path:
        fact.script = f"PATH={path}:$PATH\n{fact.script}"
    said = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    return fact.process(said.stdout.splitlines())


def write(folder: Path, pod: str, text: str, name: str = "0.log") -> Path:
    file = folder / "pods" / f"kube-system_{pod}_uid" / "coredns" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def texts(reading: Reading[list[LogGroup]]) -> list[tuple[str, str, int]]:
    return [(group["level"], group["text"], group["times"]) for group in reading["value"]]


def test_containerds_files(tmp_path: Path) -> None:
    write(tmp_path, "coredns-7c9d-abcde", CRI)
    write(tmp_path, "web-1", CRI)
    reading = ask(tmp_path)
    assert (reading["state"], reading["detail"]) == ("value", "")
    assert texts(reading) == [
        ("ERROR", "plugin/errors: read udp 10.244.0.5->172.25.4.1:53: i/o timeout", 2),
        ("ERROR", "plugin/errors: HINFO: read udp 10.244.0.5->172.25.4.1:53: i/o timeout", 1),
        ("ERROR", "plugin/errors: errors like '^read udp .* i/o timeout$' occurred in last 30s", 22),
        (
            "FATAL",
            'plugin/loop: Loop (127.0.0.1 -> :53) detected for zone ".", see '
            'https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO N."',
            1,
        ),
        (
            "KLOG",
            'client-go/tools/cache/reflector.go:229: Failed to watch *v1.Service: Get "https://10.32.0.1:443/api": '
            "dial tcp 10.32.0.1:443: i/o timeout",
            1,
        ),
    ]
    assert reading["value"][0] | {"text": ""} == {
        "file": "pods/kube-system_coredns-7c9d-abcde_uid/coredns/0.log",
        "pod": "kube-system/coredns-7c9d-abcde",
        "level": "ERROR",
        "text": "",
        "example": "plugin/errors: 2 zju.edu.cn. AAAA: read udp 10.244.0.5:44445->172.25.4.1:53: i/o timeout",
        "times": 2,
        "first": "2026-11-22T03:00:01Z",
        "last": "2026-11-22T03:00:02Z",
        "since": "2026-11-22T03:00:01Z",
        "spell": 2,
    }


def test_dockers_files(tmp_path: Path) -> None:
    write(tmp_path, "coredns-x", DOCKER)
    reading = ask(tmp_path)
    assert texts(reading) == [
        ("ERROR", "plugin/errors: unreachable backend: read udp 10.244.0.148->10.96.0.10:53: i/o timeout", 1),
        ("FATAL", 'plugin/loop: Seen "HINFO N." to 10.2.3.4:53 more than twice, loop detected', 1),
    ]
    assert reading["value"][0]["first"] == "2018-11-21T06:48:51Z"


def test_a_spell_begins_after_an_hour_without_a_complaint(tmp_path: Path) -> None:
    line = "2026-11-{} stdout F [ERROR] plugin/errors: 2 a. A: read udp 10.0.0.5:4->172.25.4.1:53: i/o timeout\n"
    times = ("20T10:00:00Z", "20T10:00:01Z", "21T23:30:00Z", "22T00:20:00Z", "22T00:20:01Z")
    write(tmp_path, "coredns-x", "".join(map(line.format, times)))
    (group,) = ask(tmp_path)["value"]
    assert (group["times"], group["first"]) == (5, "2026-11-20T10:00:00Z")
    assert (group["spell"], group["since"], group["last"]) == (3, "2026-11-21T23:30:00Z", "2026-11-22T00:20:01Z")


def test_links_below_containers_are_read_where_there_are_no_pods(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "coredns-7c-x_kube-system_coredns-0123abcd.log").write_text(CRI)
    assert {group["pod"] for group in ask(tmp_path)["value"]} == {"kube-system/coredns-7c-x"}


def test_crictl_is_asked_where_there_are_no_files(tmp_path: Path) -> None:
    crictl = tmp_path / "crictl"
    crictl.write_text(
        "#!/bin/sh\ncase $1 in ps) echo 0123 ;; logs) echo 'time=x level=warning' >&2\n"
        "echo '2026-11-22T03:00:01.1Z [ERROR] plugin/errors: 2 a. A: EOF' ;; esac\n"
    )
    crictl.chmod(0o755)
    reading = ask(tmp_path, tmp_path)
    assert texts(reading) == [("ERROR", "plugin/errors: EOF", 1)]
    assert reading["value"][0]["pod"] == "0123"


def test_no_complaint_and_no_log_are_empty(tmp_path: Path) -> None:
    assert ask(tmp_path)["state"] == "empty"
    write(tmp_path, "coredns-x", "2026-11-22T03:00:00Z stdout F [INFO] CoreDNS-1.11.1\n")
    assert ask(tmp_path)["state"] == "empty"


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "2026-11-22T03:00:00Z stdout F [ERROR] plugin/errors: 2 a. A: {}\n"
    many = "".join(line.format(f"error {number}") for number in range(coredns_logs.GROUPS + 50))
    file = write(tmp_path, "coredns-x", many)
    found = ask(tmp_path)["value"]
    assert len(found) == coredns_logs.GROUPS + 1
    assert (found[-1]["text"], found[-1]["times"]) == ("more than 100 different complaints", 50)
    with file.open("w") as big:
        big.write(line.format("at the beginning"))
        big.truncate(coredns_logs.BYTES)
        big.seek(0, os.SEEK_END)
        big.write("\n" + line.format("at the end"))
    reading = ask(tmp_path)
    assert texts(reading) == [("ERROR", "plugin/errors: at the end", 1)]
    assert reading["detail"].startswith(f"truncated: the last {coredns_logs.BYTES} of ")
    for number in range(coredns_logs.FILES + 1):
        write(tmp_path, f"coredns-{number}", line.format("x"))
    assert "truncated: 12 of 14 files" in ask(tmp_path)["detail"]


def test_a_log_that_tells_no_time_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "coredns-x", "[ERROR] plugin/errors: 2 a. A: EOF\n2026-11-22Tgarbage F [ERROR] x: y\n")
    assert ask(tmp_path)["state"] == "empty"


def test_kubectls_lines() -> None:
    lines = [
        "[pod/coredns-x/coredns] 2026-11-22T03:00:01.1Z [INFO] CoreDNS-1.11.1",
        "[pod/coredns-x/coredns] 2026-11-22T11:00:01.1+08:00 [ERROR] plugin/errors: 2 a. A: "
        "read udp 10.0.0.5:4->172.25.4.1:53: i/o timeout",
        "[pod/coredns-x/coredns] 2026-11-22T03:00:31Z [ERROR] plugin/errors: 15 errors like '^read .*$' occurred",
        "[pod/coredns-y/coredns] 2026-11-22T03:00:32Z E1122 03:00:32.0 1 reflector.go:205] Failed to watch",
        "[pod/coredns-y/coredns] 2026-11-22T03:00:33Z panic: runtime error",
        "[pod/coredns-y/coredns] 2026-99-99T03:00:33Z [ERROR] plugin/errors: 2 a. A: EOF",
        "error: a container name must be specified",
    ]
    found = of_kubectl("kube-system", "\n".join(lines))
    assert [(one["pod"], one["level"], one["times"], one["first"]) for one in found] == [
        ("kube-system/coredns-x", "ERROR", 1, "2026-11-22T03:00:01Z"),
        ("kube-system/coredns-x", "ERROR", 15, "2026-11-22T03:00:31Z"),
        ("kube-system/coredns-y", "KLOG", 1, "2026-11-22T03:00:32Z"),
        ("kube-system/coredns-y", "PANIC", 1, "2026-11-22T03:00:33Z"),
    ]
    (one,) = [one for one in complaints({"kubectl": found}) if one["upstream"]]
    assert (one["upstream"], one["sources"]) == ("172.25.4.1:53", ["10.0.0.5"])
