"""The examples of docs/ci.md and docs/onboarding.md: they are YAML, and their commands do what is said of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from facts.snapshot import FACTS
from lab.api import Lab
from tests.checks.kube_fleet import fleet, reading, set_host
from tests.conftest import ROOT


def examples(page: str) -> list[Any]:
    text = (ROOT / "docs" / page).read_text()
    return [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


GITHUB, GITLAB = examples("ci.md")
(CLOUD_INIT,) = examples("onboarding.md")


def test_no_recipe_joins_without_a_certificate_that_is_there() -> None:
    """pyinfra ends with 0 where it has judged no node."""
    text = (ROOT / "docs/onboarding.md").read_text()
    recipes = [block for block in re.split(r"\n\n(?!    )", text) if re.search(r"(&& .*|exec )kubeadm join", block)]
    assert len(recipes) == 3
    for recipe in recipes:
        assert recipe.index("--data json=") < recipe.index("test -s ") < recipe.index("kubeadm join ")


def step(job: str, name: str) -> str:
    return str(next(each["run"] for each in GITHUB["jobs"][job]["steps"] if each.get("name") == name))


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """Three nodes of a cluster as they were recorded, of one backend that is chosen for good."""
    folder = tmp_path / "snapshots"
    folder.mkdir()
    for node, read in fleet().items():
        whole = {**{name: reading(fact.nothing()) for name, fact in FACTS.items()}, **read}
        (folder / f"{node}.json").write_text(json.dumps(whole))
    return folder


def run(script: str, snapshots: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """As a runner does it, with this checkout's Python and the files in a folder of their own."""
    here = snapshots.parent
    changed = script.replace(".venv/bin/python", sys.executable).replace(
        "--snapshots snapshots", f"--snapshots {snapshots}"
    )
    changed = re.sub(r"drift\.(xml|txt)", lambda match: str(here / match[0]), changed)
    environment = os.environ | {"GITHUB_STEP_SUMMARY": str(here / "summary")}
    command = ["bash", "--noprofile", "--norc", *(options or ["-eo", "pipefail"]), "-c", changed]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, env=environment
    )


def flip(snapshots: Path) -> None:
    """node-1's iptables is nft, where the others' is legacy."""
    path = snapshots / "node-1.json"
    read = json.loads(path.read_text())
    set_host(read, "nft", "nft")
    path.write_text(json.dumps(read))


def test_github_warns_of_a_policy_that_changes_nodes(snapshots: Path) -> None:
    script = step("policy", "What this policy would change")
    done = run(script, snapshots)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no drift: 3 nodes" in done.stdout and "::warning::" not in done.stdout
    flip(snapshots)
    done = run(script, snapshots)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DRIFT node-1: iptables is legacy" in (snapshots.parent / "summary").read_text()
    assert "::warning::this policy changes nodes" in done.stdout
    assert (snapshots.parent / "drift.xml").is_file()
    (snapshots / "node-2.json").write_text("{}")
    assert run(script, snapshots).returncode == 1


def test_gitlab_lets_drift_through_and_no_error(snapshots: Path) -> None:
    (script,) = GITLAB["policy"]["script"]
    allowed = GITLAB["policy"]["allow_failure"]["exit_codes"]
    assert run(script, snapshots).returncode == 0
    flip(snapshots)
    assert run(script, snapshots).returncode in allowed
    (snapshots / "node-2.json").write_text("{}")
    assert run(script, snapshots).returncode == 1 and 1 not in allowed


def test_a_node_of_another_dnsmend_is_an_error(snapshots: Path) -> None:
    path = snapshots / "node-0.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "udp"}))
    done = run(GITLAB["policy"]["script"][0], snapshots)
    assert done.returncode == 1
    assert "node-0: its snapshot, of another dnsmend, lacks udp: record it anew" in done.stdout


def test_every_command_of_both_files_is_known() -> None:
    scripts = [each["run"] for job in GITHUB["jobs"].values() for each in job["steps"] if "run" in each]
    scripts += [line for job in ("nodes", "policy") for line in GITLAB[job]["script"]]
    scripts += GITLAB["default"]["before_script"]
    for script in scripts:
        subprocess.run(["bash", "-n", "-c", script], check=True)
    gates = [line for script in scripts for line in script.splitlines() if "deploys.gate" in line]
    assert len(gates) == 4


def test_the_node_that_joins_by_cloud_init() -> None:
    (file,) = CLOUD_INIT["write_files"]
    subprocess.run(["sh", "-n", "-c", file["content"]], check=True)
    assert CLOUD_INIT["runcmd"][-1] == [file["path"]]
    assert file["content"].splitlines()[-1].startswith("exec kubeadm join")


@pytest.mark.lab
@pytest.mark.parametrize("script", [step("nodes", "Drift"), GITLAB["nodes"]["script"][-1]], ids=["github", "gitlab"])
def test_the_nodes(healed: Lab, snapshots: Path, script: str) -> None:
    done = run(script, snapshots)
    assert done.returncode == 0, done.stdout + done.stderr
    healed.inject("dnsmasq-except-cilium", "node-1")
    assert run(script, snapshots).returncode == 2
    assert "dnsmasq answers pods" in (snapshots.parent / "drift.xml").read_text()
