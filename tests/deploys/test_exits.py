"""What each run's exit code says, and the one sentence that bad input gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploys.exits import Exit
from lab.api import Lab
from tests.conftest import ROOT, Run

pytestmark = pytest.mark.lab


def test_well(healed: Lab, pyinfra: Run) -> None:
    done = pyinfra("-y", "inventory", "deploys/diagnose.py")
    assert done.returncode == Exit.WELL, done.stderr
    assert done.stdout == ""
    assert pyinfra("-y", "inventory", "deploys/verify.py").returncode == Exit.WELL


def test_not_well(healed: Lab, pyinfra: Run) -> None:
    healed.inject("dnsmasq-except-cilium", "node-2")
    done = pyinfra("-y", "inventory", "deploys/diagnose.py")
    assert done.returncode == Exit.NOT_WELL
    assert "VERDICT pod -> CoreDNS ok, node-2/pod 172.26.4.53 -> 172.25.4.3:53 (node-2): " in done.stderr
    assert "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)" in done.stderr
    assert "1 incident; to repair: node-2." in done.stderr
    assert pyinfra("-y", "inventory", "deploys/verify.py").returncode == Exit.NOT_WELL


def test_an_unreachable_node_is_not_well_and_does_not_hide_the_others(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-1")
    node.run(["systemctl", "stop", "ssh.socket", "ssh.service"], check=False)
    try:
        done = pyinfra("-y", "inventory", "deploys/diagnose.py")
        assert done.returncode == Exit.NOT_WELL
        assert "not read: node-1: it could not be reached" in done.stderr
        assert "not all is known: 1 node unread." in done.stderr.replace("\n", " ")
        assert pyinfra("-y", "inventory", "deploys/verify.py").returncode == Exit.NOT_WELL
        changing = pyinfra("inventory", "deploys/fix_dns.py", "-y")
        assert changing.returncode == Exit.NOT_WELL
        assert "Starting operation" not in changing.stderr
    finally:
        node.run(["systemctl", "start", "ssh.service"])


def test_a_fleet_in_which_nothing_serves_dns_is_not_proven(healed: Lab, pyinfra: Run) -> None:
    nobody = ["--data", 'dns_vips=["192.0.2.1"]']
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", *nobody)
    assert done.returncode == Exit.NOT_WELL
    assert "nothing was proven: no address of these nodes serves DNS" in done.stderr
    assert pyinfra("-y", "inventory", "deploys/verify.py", *nobody).returncode == Exit.NOT_WELL
    assert pyinfra("inventory", "deploys/fix_dns.py", "-y", *nobody).returncode == Exit.WELL


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("dnsmasq_interface_policy=except-low", "--data dnsmasq_interface_policy = 'except-low': must be one of"),
        ("probe_tries=0", "--data probe_tries = 0: must be a whole number from 1 to 200"),
        ("wave_nodes=150%", "--data wave_nodes = '150%': must be a whole number from 1, or a share"),
        ("dns_vips=[1.2.3]", "--data dns_vips = '[1.2.3]': must be None or a list of IP addresses"),
        ("canary_node=2", "--data canary_node: there is no such key; did you mean canary_nodes?"),
    ],
)
def test_a_bad_policy_is_named_and_nothing_is_done(healed: Lab, pyinfra: Run, data: str, sentence: str) -> None:
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y", "--data", data)
    assert done.returncode == Exit.NOT_WELL
    assert sentence in done.stderr
    assert "Starting operation" not in done.stderr


def test_a_bad_policy_file_is_named_with_its_line(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    for entry in ROOT.iterdir():
        if entry.name != "group_data":
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "group_data", tmp_path / "group_data")
    (tmp_path / "group_data/nodes.py").write_text('"""A test."""\n\nundo_after = "soon"\n')
    done = pyinfra("inventory", "deploys/fix_dns.py", "-y", cwd=tmp_path)
    assert done.returncode == Exit.NOT_WELL
    assert "group_data/nodes.py:3: undo_after = 'soon': must be a whole number from 30 to 3600" in done.stderr


def test_undo_without_a_run_lists_them_and_takes_no_path_for_one(healed: Lab, pyinfra: Run) -> None:
    listed = pyinfra("-y", "inventory", "deploys/undo.py")
    assert listed.returncode == Exit.WELL
    assert "run 2" in listed.stderr or "no node has a run that could be taken back" in listed.stderr
    refused = pyinfra("-y", "inventory", "deploys/undo.py", "--data", "run=../../etc")
    assert refused.returncode == Exit.NOT_WELL
    assert "--data run='../../etc': is no run's id" in refused.stderr


def test_the_lab_that_is_down_is_one_sentence(pyinfra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNSMEND_LAB_DIR", "/nonexistent")
    done = pyinfra("inventory", "deploys/diagnose.py")
    assert done.returncode == 1
    assert "the lab is not up: run `python -m lab up`" in done.stderr
