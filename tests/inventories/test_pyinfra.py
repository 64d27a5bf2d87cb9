"""pyinfra with each kind of inventory: what it makes of it, and the lab's nodes reached through it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from deploys.exits import Exit
from lab import keys, plan
from lab.api import Lab
from tests.conftest import ROOT, Run

SAMPLES = Path(__file__).parent / "samples"


def test_groups_whose_names_are_no_identifiers(pyinfra: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNSMEND_INVENTORY", str(SAMPLES / "kubespray-yaml/hosts.yaml"))
    done = pyinfra("inventories/from_ansible.py", "debug-inventory")
    assert done.returncode == 0, done.stderr
    assert "--> Groups: kube-master, etcd, k8s-cluster, from_ansible" in done.stderr
    assert done.stderr.count("--> Groups: kube-node, k8s-cluster, from_ansible") == 2
    assert "hosts.yaml:5: supplementary_addresses_in_ssl_keys: not known to dnsmend, not used" in done.stderr


def test_a_copy_with_the_path_in_its_last_line(pyinfra: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNSMEND_INVENTORY", raising=False)
    text = (ROOT / "inventories/from_ansible.py").read_text()
    asked, path = '_os.environ.get("DNSMEND_INVENTORY", "")', str(SAMPLES / "mixed/hosts.yaml")
    assert asked in text
    (tmp_path / "mine.py").write_text(text.replace(asked, repr(path)))
    done = pyinfra(str(tmp_path / "mine.py"), "debug-inventory")
    assert done.returncode == 0, done.stderr
    assert "192.0.2.6" in done.stderr and "hosts.yaml:6: site: not known to dnsmend, not used" in done.stderr


def test_the_static_example(pyinfra: Run) -> None:
    done = pyinfra("inventories/example.py", "debug-inventory")
    assert done.returncode == 0, done.stderr
    assert "192.0.2.11" in done.stdout + done.stderr


@pytest.mark.parametrize("inventory", ["from_ansible.py", "from_kubectl.py"])
def test_an_inventory_that_is_not_there_is_one_sentence_and_no_success(
    inventory: str, pyinfra: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNSMEND_INVENTORY", "/nonexistent/hosts")
    done = pyinfra("-y", f"inventories/{inventory}", "deploys/diagnose.py")
    assert done.returncode == 1
    assert "/nonexistent/hosts: " in done.stderr
    assert "Traceback" not in done.stderr


def access() -> list[str]:
    """What a person would have in ~/.ssh/config."""
    data = (f"ssh_user={plan.SSH_USER}", f"ssh_key={keys.client_key()}", f"ssh_known_hosts_file={keys.known_hosts()}")
    return [part for one in data for part in ("--data", one)]


@pytest.mark.lab
@pytest.mark.parametrize("by", ["ansible-inventory", "the plain reader"])
def test_kubesprays_sample_drives_a_diagnosis(
    by: str, healed: Lab, pyinfra: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the addresses is changed."""
    text = (SAMPLES / "kubespray-sample/inventory.ini").read_text()
    for number in range(3):
        text = re.sub(rf"192\.0\.2\.{number + 1}\b", healed.node(f"node-{number}").plan.management, text)
    (tmp_path / "inventory.ini").write_text(text)
    if by == "the plain reader":
        (tmp_path / "ansible-inventory").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "ansible-inventory").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
    monkeypatch.setenv("DNSMEND_INVENTORY", str(tmp_path / "inventory.ini"))
    done = pyinfra("-y", "inventories/from_ansible.py", "deploys/diagnose.py", *access())
    assert done.returncode == Exit.WELL, done.stderr
    for node in ("node1", "node2", "node3"):
        assert f"[{node}] Connected" in done.stderr
    limited = pyinfra("-y", "inventories/from_ansible.py", "deploys/verify.py", "--limit", "kube_node", *access())
    assert limited.returncode == Exit.WELL, limited.stderr
    assert "node2" in limited.stderr and "node1" not in limited.stderr


@pytest.mark.lab
def test_nodes_behind_a_jump_host(healed: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, jump, last = (healed.node(f"node-{number}").plan.management for number in range(3))
    proxy = f"ssh -F {keys.config()} -W %h:%p -q {jump}"
    hosts = {
        "node-0": {
            "ansible_host": first,
            "ansible_ssh_common_args": f"-F {keys.config()} -J {plan.SSH_USER}@{jump}",
        },
        "node-2": {
            "ansible_host": last,
            "ansible_ssh_common_args": f'-o UserKnownHostsFile={keys.known_hosts()} -o ProxyCommand="{proxy}"',
        },
    }
    common = {"ansible_user": plan.SSH_USER, "ansible_ssh_private_key_file": str(keys.client_key())}
    # JSON is YAML.
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
    monkeypatch.setenv("DNSMEND_INVENTORY", str(tmp_path / "hosts.yml"))
    # As a person does: with `python -m pyinfra`, paramiko's ProxyCommand is imported before gevent, and waits for ever.
    done = subprocess.run(
        [
            "pyinfra",
            "-y",
            "inventories/from_ansible.py",
            "exec",
            "--data",
            "_sudo=false",
            "--",
            "echo from $SSH_CONNECTION",
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"\[(node-\d)\] from (\S+)", done.stderr)) == [("node-0", jump), ("node-2", jump)]


@pytest.mark.lab
def test_a_jump_host_with_an_unknown_key_is_not_taken(
    healed: Lab, pyinfra: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes' keys are known; the jump host's are not, and nobody is asked."""
    (tmp_path / "known").write_text("")
    (tmp_path / "config").write_text(
        f"Host *\nUserKnownHostsFile {tmp_path / 'known'}\nIdentityFile {keys.client_key()}\n"
    )
    first, jump = (healed.node(f"node-{number}").plan.management for number in range(2))
    arguments = f"-F {tmp_path / 'config'} -J {plan.SSH_USER}@{jump}"
    (tmp_path / "hosts").write_text(f"node-0 ansible_host={first} ansible_ssh_common_args='{arguments}'\n")
    monkeypatch.setenv("DNSMEND_INVENTORY", str(tmp_path / "hosts"))
    done = pyinfra("-y", "inventories/from_ansible.py", "deploys/verify.py", *access())
    assert done.returncode == Exit.NOT_WELL
    assert "No host key" in done.stderr and "EOFError" not in done.stderr
    assert (tmp_path / "known").read_text() == ""


@pytest.mark.lab
def test_the_clusters_list_of_nodes(healed: Lab, pyinfra: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        {
            "kind": "Node",
            "metadata": {"name": f"node-{number}", "labels": {}},
            "status": {"addresses": [{"type": "InternalIP", "address": healed.node(f"node-{number}").plan.management}]},
        }
        for number in range(3)
    ]
    (tmp_path / "nodes.json").write_text(json.dumps({"kind": "List", "items": items}))
    monkeypatch.setenv("DNSMEND_INVENTORY", str(tmp_path / "nodes.json"))
    done = pyinfra("-y", "inventories/from_kubectl.py", "deploys/verify.py", *access())
    assert done.returncode == Exit.WELL, done.stderr
