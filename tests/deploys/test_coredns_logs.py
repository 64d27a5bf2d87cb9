"""CoreDNS's logs by kubectl: asked only where no node's files tell anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploys import evidence
from facts.history import FACTS, History
from facts.kubectl import Kubectl

LINE = "2026-11-22T03:00:01Z [ERROR] plugin/errors: 2 a. A: read udp 10.0.0.5:4->172.25.4.1:53: i/o timeout"


def kubectl(folder: Path, script: str) -> Kubectl:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{folder}/asked\n{script}\n")
    program.chmod(0o755)
    return Kubectl(str(program))


def history(**readings: Any) -> History:
    empty = {"state": "empty", "value": [], "detail": ""}
    return {name: readings.get(name, empty) for name in FACTS}  # type: ignore[return-value]


GROUP = {
    "file": "pods/x/0.log",
    "pod": "kube-system/coredns-x",
    "level": "ERROR",
    "text": "plugin/errors: EOF",
    "example": "plugin/errors: EOF",
    "times": 1,
    "first": "2999-01-01T00:00:00Z",
    "last": "2999-01-01T00:00:00Z",
    "since": "2999-01-01T00:00:00Z",
    "spell": 1,
}


def test_kubectl_is_asked_where_no_file_tells(tmp_path: Path) -> None:
    said = LINE.replace("2026", "2999")
    cluster = kubectl(tmp_path, f"echo '[pod/coredns-x/coredns] {said}'")
    found = evidence.coredns({"node-0": history()}, cluster, "dns")
    assert found["sentences"] == [
        "kubectl on the controller dns/coredns-x: no answer from 172.25.4.1:53 over UDP: once, at 2999-11-22T03:00:01Z"
    ]
    asked = (tmp_path / "asked").read_text().split()
    assert {"logs", "--namespace=dns", f"--tail={evidence.LINES}"} <= set(asked)


def test_kubectl_is_not_asked_where_files_tell(tmp_path: Path) -> None:
    files = {"state": "value", "value": [GROUP], "detail": ""}
    cluster = kubectl(tmp_path, "exit 1")
    assert len(evidence.coredns({"node-0": history(coredns=files)}, cluster)["complaints"]) == 1
    assert not (tmp_path / "asked").exists()


def test_what_could_not_be_read_is_said(tmp_path: Path) -> None:
    denied = {"state": "not permitted", "value": [], "detail": "permission denied"}
    cluster = kubectl(tmp_path, "echo 'Unable to connect to the server: dial tcp: i/o timeout' >&2; exit 1")
    first, second = evidence.coredns({"node-0": history(coredns=denied), "node-1": None}, cluster)["notes"]
    assert first == "node-0: CoreDNS's logs: not permitted: permission denied"
    assert second.startswith("CoreDNS's logs: ")
