"""The cluster's Lease, against a stand-in for kubectl that keeps one object as an API server does."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from facts.kubectl import Kubectl, KubectlError
from operations import lease

#: Keeps one Lease in a file: create fails where it is there, patch where the resourceVersion is another one.
_KUBECTL = r"""
import fcntl, json, sys
from pathlib import Path

store = Path(sys.argv[1])
words = [word for word in sys.argv[2:] if not word.startswith(("--request-timeout", "--namespace"))]

def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)

with store.with_suffix(".lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    live = json.loads(store.read_text()) if store.exists() else None
    if words[0] == "get":
        assert words[1:3] == ["lease.coordination.k8s.io", "dnsmend"] and "--ignore-not-found" in words
        print(json.dumps(live) if live else "", end="")
    elif words[0] == "create":
        if live:
            fail('Error from server (AlreadyExists): leases.coordination.k8s.io "dnsmend" already exists')
        (file,) = [word.partition("=")[2] for word in words if word.startswith("--filename=")]
        live = json.loads(Path(file).read_text())
        assert live["kind"] == "Lease" and live["apiVersion"] == "coordination.k8s.io/v1"
        live["metadata"]["resourceVersion"] = "1"
        store.write_text(json.dumps(live))
    elif words[0] == "patch":
        (patch,) = [json.loads(word.partition("=")[2]) for word in words if word.startswith("--patch=")]
        if patch["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
            fail('Error from server (Conflict): Operation cannot be fulfilled on leases "dnsmend"')
        for key, value in patch["spec"].items():
            live["spec"].pop(key, None) if value is None else live["spec"].__setitem__(key, value)
        live["metadata"]["resourceVersion"] = str(int(live["metadata"]["resourceVersion"]) + 1)
        store.write_text(json.dumps(live))
    else:
        fail(f"not known: {words}")
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    (tmp_path / "kubectl.py").write_text(_KUBECTL)
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/kubectl.py {tmp_path}/lease.json "$@"\n')
    program.chmod(0o755)
    return Kubectl(str(program))


def stored(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "lease.json").read_text())
    return found


def take(kubectl: Kubectl, run: str, ttl: int = 60) -> str:
    return lease.take(kubectl, "kube-system", run, f"ann@laptop, process {run}", ttl)


def test_taken_renewed_released_and_taken_again(kubectl: Kubectl, tmp_path: Path) -> None:
    assert take(kubectl, "a") == ""
    first = stored(tmp_path)
    assert first["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "dnsmend"}
    assert first["spec"]["holderIdentity"] == "a of ann@laptop, process a"
    assert take(kubectl, "a") == ""
    again = stored(tmp_path)["spec"]
    assert again["acquireTime"] == first["spec"]["acquireTime"] and again["renewTime"] > first["spec"]["renewTime"]
    assert again["leaseTransitions"] == 0
    lease.release(kubectl, "kube-system", "b")
    assert stored(tmp_path)["spec"] == again
    lease.release(kubectl, "kube-system", "a")
    assert "holderIdentity" not in stored(tmp_path)["spec"]
    assert take(kubectl, "b") == ""
    assert stored(tmp_path)["spec"]["leaseTransitions"] == 1


def test_another_one_learns_whose_it_is(kubectl: Kubectl) -> None:
    take(kubectl, "a")
    with pytest.raises(lease.Taken, match=r"run a of ann@laptop, process a holds it since \S+Z, until \S+Z unless it"):
        take(kubectl, "b")


@pytest.mark.parametrize("stale", [False, True])
def test_of_eight_at_once_one_wins(kubectl: Kubectl, tmp_path: Path, stale: bool) -> None:
    if stale:
        take(kubectl, "dead", ttl=0)

    def attempt(run: str) -> str:
        try:
            return take(kubectl, run)
        except lease.Taken:
            return "lost"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(attempt, [f"run-{number}" for number in range(8)]))
    assert said.count("lost") == 7
    (won,) = [number for number, each in enumerate(said) if each != "lost"]
    assert stored(tmp_path)["spec"]["holderIdentity"].startswith(f"run-{won} ")
    assert ("dead" in said[won]) == stale


@pytest.mark.parametrize(
    "spec",
    [
        {"holderIdentity": "x", "renewTime": "soon", "leaseDurationSeconds": 60},
        {"holderIdentity": "x"},
        {"holderIdentity": "x", "renewTime": "2026-11-22T08:00:00.000000Z", "leaseDurationSeconds": "many"},
        {"holderIdentity": "x", "renewTime": "2020-01-01T00:00:00Z", "leaseDurationSeconds": 60},
    ],
)
def test_a_lease_that_nobody_renews_is_taken_over(kubectl: Kubectl, tmp_path: Path, spec: dict[str, object]) -> None:
    (tmp_path / "lease.json").write_text(json.dumps({"metadata": {"resourceVersion": "5"}, "spec": spec}))
    assert take(kubectl, "b") == "the cluster's Lease of run x had run out, and is taken over"


def test_an_answer_that_is_none_is_an_error(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text("[]")
    (tmp_path / "lease.json").write_text(json.dumps({"items": []}))
    with pytest.raises(KubectlError, match="is not understood"):
        take(kubectl, "b")
