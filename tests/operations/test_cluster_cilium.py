"""Cilium's policy through the whole deploy: tried first, applied once, left alone, removed, and refused if it is wrong.

The lab's API server does not know the kind. What stands in for kubectl keeps objects in a folder, and takes what holds
to the published schema of the kind, as an API server does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.api import Lab
from tests.conftest import ROOT, Run

pytestmark = pytest.mark.lab

SCHEMA = ROOT / "tests/fixtures/schemas/ciliumnetworkpolicy_v2.json"

KUBECTL = """#!{python}
import json, pathlib, sys
import jsonschema

store = pathlib.Path(__file__).parent / "objects"
store.mkdir(exist_ok=True)
words = [each for each in sys.argv[1:] if not each.startswith("--request-timeout")]
options = dict(each.split("=", 1) if "=" in each else (each, "") for each in words if each.startswith("--"))
verb, *names = [each for each in words if not each.startswith("--")]


def listed(items):
    print(json.dumps({"kind": "List", "items": items}))


if verb == "api-versions":
    print("v1\\nbatch/v1\\npolicy/v1\\nnetworking.k8s.io/v1\\ncilium.io/v2")
elif verb == "get" and "--raw" in options:
    print(json.dumps({"resources": [{"name": "cronjobs"}]}))
elif verb == "get" and names[0].startswith("services"):
    ports = [{"port": 6443}]
    listed([{"kind": "Endpoints", "subsets": [{"addresses": [{"ip": "172.25.4.200"}], "ports": ports}]}])
elif verb == "get" and "ciliumnetworkpolicies" in names[0]:
    listed([json.loads(each.read_text()) for each in sorted(store.iterdir())])
elif verb == "get" and names[0].startswith("ciliumnetworkpolicy"):
    if (store / names[0].partition("/")[2]).exists():
        print(names[0])
elif verb == "get":
    listed([])
elif verb == "apply":
    policy = json.loads(pathlib.Path(options["--filename"]).read_text())
    jsonschema.Draft202012Validator(json.loads(pathlib.Path("{schema}").read_text())).validate(policy)
    kept = store / policy["metadata"]["name"]
    before = json.loads(kept.read_text()) if kept.exists() else None
    version = before["metadata"]["resourceVersion"] if before else "0"
    policy["metadata"]["resourceVersion"] = version
    if policy != before:
        policy["metadata"]["resourceVersion"] = str(int(version) + 1)
    if options.get("--dry-run") != "server":
        kept.write_text(json.dumps(policy))
    print(json.dumps(policy))
elif verb == "delete":
    (store / names[0].partition("/")[2]).unlink(missing_ok=True)
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL.replace("{python}", sys.executable).replace("{schema}", str(SCHEMA)))
    program.chmod(0o755)
    return program


def kept(kubectl: Path) -> list[dict[str, Any]]:
    return [json.loads(each.read_text()) for each in sorted((kubectl.parent / "objects").iterdir())]


def quiet(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == 0 and "Success" not in done.stderr.split("--> Results:")[0]


def test_ciliums_policy_is_tried_applied_once_and_removed(healed: Lab, pyinfra: Run, kubectl: Path) -> None:
    def keep(how: str = "-y", *more: str) -> subprocess.CompletedProcess[str]:
        data = [f"kubectl={kubectl}", 'cluster_objects=["cilium-policy"]', 'dns_vips=["172.25.4.1"]', *more]
        options = [word for each in data for word in ("--data", each)]
        return pyinfra(how, "--limit", "node-0", "inventory", "deploys/cluster_objects.py", *options)

    dry = keep("--dry")
    assert dry.returncode == 0, dry.stderr
    assert "+ ciliumnetworkpolicy.cilium.io/dnsmend-coredns" in dry.stderr and kept(kubectl) == []
    first = keep()
    assert first.returncode == 0, first.stderr
    (policy,) = kept(kubectl)
    assert policy["spec"]["egress"][2]["toPorts"] == [{"ports": [{"port": "6443", "protocol": "TCP"}]}]
    assert quiet(keep())
    assert [each["metadata"]["resourceVersion"] for each in kept(kubectl)] == ["1"]
    changed = keep("-y", 'dns_vips=["172.25.4.1","172.25.4.2"]')
    assert changed.returncode == 0, changed.stderr
    (policy,) = kept(kubectl)
    assert policy["spec"]["egress"][1]["toCIDR"] == ["172.25.4.1/32", "172.25.4.2/32"]
    removed = keep("-y", "remove=true")
    assert removed.returncode == 0 and kept(kubectl) == [], removed.stderr
    assert quiet(keep("-y", "remove=true"))
