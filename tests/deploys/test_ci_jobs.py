"""The jobs of docs/ci.md as a runner has them: they hold to the published schemas, and each step is run in its turn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from lab import keys, plan
from lab.api import Lab
from tests.conftest import ROOT
from tests.deploys.test_ci_docs import GITHUB, GITLAB

SCHEMAS = [("github-workflows", GITHUB), ("gitlab-ci", GITLAB)]


def holds(schema: str, example: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    """check-jsonschema has both schemas in it, and asks no network."""
    # "on" is a boolean to YAML 1.1, and a word to GitHub.
    (folder / "example.yml").write_text(yaml.safe_dump({"on" if key is True else key: example[key] for key in example}))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    return subprocess.run([*command, str(folder / "example.yml")], capture_output=True, text=True)


@pytest.mark.parametrize(("schema", "example"), SCHEMAS, ids=[name for name, _ in SCHEMAS])
def test_schemas(schema: str, example: Any, tmp_path: Path) -> None:
    done = holds(schema, example, tmp_path)
    assert done.returncode == 0, done.stdout
    # It is strict enough to see a typing mistake.
    if schema == "gitlab-ci":
        wrong = {**example, "policy": {**example["policy"], "allow_failure": {"exit_code": [2]}}}
    else:
        steps = [{"uses": "actions/checkout@v4", "runs": "true"}]
        wrong = {**example, "jobs": {"nodes": {**example["jobs"]["nodes"], "steps": steps}}}
    assert holds(schema, wrong, tmp_path).returncode == 1


INSTALLS = [
    GITHUB["jobs"]["nodes"]["steps"][1]["run"],
    GITHUB["jobs"]["policy"]["steps"][1]["run"],
    "\n".join(GITLAB["default"]["before_script"]),
]


def test_all_jobs_install_alike_and_from_the_lock(tmp_path: Path) -> None:
    assert len({each.strip() for each in INSTALLS}) == 1
    (tmp_path / "requirements.lock").write_text("# nothing: the tests have no network\n")
    environment = os.environ | {"PIP_NO_INDEX": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", INSTALLS[0]], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv/bin/python").exists()
    assert (ROOT / "requirements.lock").read_text().count("==") > 5


@pytest.fixture
def checkout(healed: Lab, tmp_path: Path) -> Iterator[Path]:
    """A checkout with an inventory of the lab's nodes that leaves key and known hosts to ~/.ssh, as a runner has it."""
    folder = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".*", "runs", "tests", "bench", "lab", "__pycache__")
    shutil.copytree(ROOT, folder, symlinks=True, ignore=left_out)
    (folder / ".venv").symlink_to(sys.prefix)
    nodes = [(node.name, {"ssh_hostname": node.plan.management, "ssh_user": plan.SSH_USER}) for node in healed.nodes]
    (folder / "inventory").unlink()
    (folder / "inventory").write_text(f"nodes = {nodes}\n")
    (tmp_path / "home").mkdir()
    yield folder


def run(script: str, checkout: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """One step, or the lines of a script: bash is started by both as here, and stops at the first failure."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    environment = kept | {"HOME": str(checkout.parent / "home"), **given}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, env=environment
    )


def github(checkout: Path) -> subprocess.CompletedProcess[str]:
    """The steps of the job after the installation; a secret has no newline at its end."""
    secrets = {"secrets.DNSMEND_SSH_KEY": keys.client_key(), "vars.DNSMEND_KNOWN_HOSTS": keys.known_hosts()}
    steps = [step for step in GITHUB["jobs"]["nodes"]["steps"] if "run" in step][1:]
    assert [step["name"] for step in steps] == ["Key and known hosts", "Drift"]
    for step in steps:
        given = {
            name: secrets[value.strip("${} ")].read_text().rstrip("\n") for name, value in step.get("env", {}).items()
        }
        done = run(step["run"], checkout, **given)
        if done.returncode:
            break
    return done


def gitlab(checkout: Path) -> subprocess.CompletedProcess[str]:
    """The whole script in one shell; variables of the type file hold a path."""
    given = {"DNSMEND_SSH_KEY": str(keys.client_key()), "DNSMEND_KNOWN_HOSTS": str(keys.known_hosts())}
    return run("\n".join(GITLAB["nodes"]["script"]), checkout, **given)


@pytest.mark.lab
@pytest.mark.parametrize("job", [github, gitlab])
def test_the_nodes_job_from_key_to_report(job: Any, checkout: Path, healed: Lab) -> None:
    done = job(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "no drift: 3 nodes are as the policy wants them\n"
    ssh = checkout.parent / "home/.ssh"
    assert ssh.stat().st_mode & 0o777 == 0o700 and (ssh / "id_ed25519").stat().st_mode & 0o777 == 0o600
    healed.inject("dnsmasq-except-cilium", "node-1")
    shutil.rmtree(ssh)
    done = job(checkout)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "DRIFT node-1: dnsmasq answers pods, LAN and host\n" in done.stdout
    report = ElementTree.parse(checkout / "drift.xml").getroot()
    assert (report.get("failures"), report.get("errors")) == ("1", "0")
    # A node whose key is not the known one is an error, and never drift.
    known = "\n".join(line for line in keys.known_hosts().read_text().splitlines() if not line.startswith("node-1,"))
    (checkout.parent / "known").write_text(f"{known}\n")
    script = ".venv/bin/python -m deploys.gate inventory --junit drift.xml"
    shutil.copy(checkout.parent / "known", ssh / "known_hosts")
    done = run(script, checkout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert ElementTree.parse(checkout / "drift.xml").getroot().get("errors") != "0"
