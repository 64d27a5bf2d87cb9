"""Ansible inventories of the shapes that are out there, read plainly and by ansible-inventory, which must agree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import InventoryError

from inventories import ansible, ansible_ini, ansible_ssh, ansible_vars, ansible_yaml
from inventories.ansible_tree import expand, flatten
from inventories.listing import Listing, Var, sentences

ROOT = Path(__file__).parent.parent.parent
SAMPLES = Path(__file__).parent / "samples"
LAYOUTS = [
    "kubespray-sample/inventory.ini",
    "kubespray-ini/inventory.ini",
    "kubespray-yaml/hosts.yaml",
    "ranges/hosts",
    "ranges/hosts.yml",
    "bastion/hosts.yaml",
    "vagrant/hosts",
    "mixed/hosts.yaml",
]


def groups(name: str) -> tuple[dict[str, list[Any]], list[str]]:
    listing = ansible.plainly(SAMPLES / name)
    return ansible.translate(listing), sentences(listing.notes)


def test_kubesprays_sample() -> None:
    made, notes = groups("kubespray-sample/inventory.ini")
    assert made == {
        "all": [
            ("node1", {"ssh_hostname": "192.0.2.1"}),
            ("node2", {"ssh_hostname": "192.0.2.2"}),
            ("node3", {"ssh_hostname": "192.0.2.3"}),
        ],
        "kube_control_plane": ["node1"],
        "etcd": ["node1"],
        "kube_node": ["node2", "node3"],
    }
    assert notes == []


def test_kubespray_in_ini_with_variables() -> None:
    made, notes = groups("kubespray-ini/inventory.ini")
    access = {"ssh_key": "~/.ssh/cluster", "_sudo": True}
    assert made["all"] == [
        ("cp-0", {"ssh_hostname": "192.0.2.10", "ssh_user": "ops", **access}),
        ("cp-1", {"ssh_hostname": "192.0.2.11", "ssh_user": "ops", **access}),
        ("worker-0", {"ssh_hostname": "192.0.2.20", "ssh_user": "ops", "ssh_port": 2222, **access}),
        ("worker-1", {"ssh_hostname": "192.0.2.21", "ssh_user": "core", **access}),
    ]
    assert made["k8s_cluster"] == ["cp-0", "cp-1", "worker-0", "worker-1"]
    assert notes == ["inventory.ini:12: kube_reserved_cpu: not known to dnsmend, not used"]


def test_kubespray_in_yaml_with_group_and_host_files_and_groups_with_dashes() -> None:
    made, notes = groups("kubespray-yaml/hosts.yaml")
    assert made["all"] == [
        ("node1", {"ssh_hostname": "192.0.2.31", "ssh_user": "ops", "ssh_port": 2022, "ssh_key": "/keys/all"}),
        ("node2", {"ssh_hostname": "192.0.2.32", "ssh_user": "ops", "ssh_port": 2022, "ssh_key": "/keys/nodes"}),
        ("node3", {"ssh_hostname": "192.0.2.33", "ssh_user": "ops", "ssh_port": 22022, "ssh_key": "/keys/nodes"}),
    ]
    assert made["kube-node"] == ["node2", "node3"] and made["k8s-cluster"] == ["node1", "node2", "node3"]
    assert notes == [
        "group_vars/all/all.yml: 2 variables that are not about reaching nodes: not used",
        "hosts.yaml:5: supplementary_addresses_in_ssl_keys: not known to dnsmend, not used",
    ]


def test_vagrants_inventory_for_kubespray() -> None:
    made, notes = groups("vagrant/hosts")
    access = {"ssh_hostname": "192.0.2.1", "ssh_user": "vagrant", "ssh_key": "/keys/insecure"}
    assert made["all"] == [("k8s-1", {**access, "ssh_port": 2222}), ("k8s-2", {**access, "ssh_port": 2200})]
    assert (made["kube_control_plane"], made["k8s_cluster"]) == (["k8s-1"], ["k8s-1", "k8s-2"])
    assert notes == [
        "hosts:3: flannel_interface: not known to dnsmend, not used (and 1 more lines)",
        "hosts:3: download_run_once: not known to dnsmend, not used (and 1 more lines)",
    ]


def test_hosts_in_their_groups_only_and_a_controller_that_is_local() -> None:
    made, notes = groups("mixed/hosts.yaml")
    assert made["all"] == [
        ("@local", {"ssh_user": "ops"}),
        ("cp-0", {"ssh_hostname": "192.0.2.5", "ssh_user": "ops"}),
        ("worker-0", {"ssh_hostname": "192.0.2.6", "ssh_user": "ops"}),
    ]
    assert (made["kube_node"], made["etcd"], made["keepalived"]) == (["worker-0"], ["cp-0"], ["cp-0"])
    assert notes == [
        "hosts.yaml:6: site: not known to dnsmend, not used",
        "hosts.yaml:11: localhost: is this machine: @local to pyinfra",
        "hosts.yaml:27: vrrp_id: not known to dnsmend, not used",
    ]


def test_what_ansible_inventory_gives_up_on_in_the_middle_is_read_plainly() -> None:
    """By itself it ends with 0 and all hosts, and has lost every group."""
    listing = ansible.read(SAMPLES / "local/hosts.ini")
    made, said = ansible.translate(listing), sentences(listing.notes)
    assert made["all"] == [("@local", {})] and made["kube_node"] == made["k8s_cluster"] == ["@local"]
    assert "calico_rr: a child of k8s_cluster that is no group of this inventory" in said
    assert "hosts.ini:2: local_release_dir: not known to dnsmend, not used" in said
    assert any("ansible-inventory could not read it" in each and each.endswith("it was read plainly") for each in said)


@pytest.mark.parametrize("name", [*LAYOUTS, "secrets/hosts.yml"])
def test_the_plain_reader_and_ansible_agree(name: str) -> None:
    plain, faithful = ansible.plainly(SAMPLES / name), ansible.by_ansible(SAMPLES / name)
    assert {host: dict(values(plain, host)) for host in plain.hosts} == {
        host: dict(values(faithful, host)) for host in faithful.hosts
    }
    assert {group: set(hosts) for group, hosts in plain.groups.items() if hosts} == {
        group: set(hosts) for group, hosts in faithful.groups.items()
    }
    assert places(plain) == places(faithful)
    assert without_files(ansible.translate(plain)) == without_files(ansible.translate(faithful))
    assert set(sentences(plain.notes)) == set(sentences(faithful.notes))


def values(listing: Listing, host: str) -> list[tuple[str, Any]]:
    encrypted = [key for key, var in listing.hosts[host].items() if var.value is ansible_yaml.VAULTED]
    encrypted += [key for key, var in listing.hosts[host].items() if "__ansible_vault" in str(var.value)]
    return [(key, "encrypted" if key in encrypted else var.value) for key, var in listing.hosts[host].items()]


def places(listing: Listing) -> dict[str, dict[str, str]]:
    return {host: {key: var.place for key, var in mine.items()} for host, mine in listing.hosts.items()}


def without_files(made: dict[str, list[Any]]) -> dict[str, Any]:
    """The hosts' data by name; each translation has a file for ssh of its own."""
    return {name: data | {"ssh_config_file": "ssh_config_file" in data} for name, data in made["all"]}


def test_without_ansible_inventory_it_is_read_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert list(ansible.read(SAMPLES / "kubespray-sample/inventory.ini").hosts) == ["node1", "node2", "node3"]


@pytest.mark.parametrize(
    "program", ["echo 'ERROR! no vault'>&2; echo hunter2 >&2; exit 1", "echo []", "echo '{}'", "echo no"]
)
def test_an_ansible_inventory_that_fails_is_said_and_the_plain_reader_reads(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "ansible-inventory"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    listing = ansible.read(SAMPLES / "kubespray-sample/inventory.ini")
    assert list(listing.hosts) == ["node1", "node2", "node3"]
    (said,) = sentences(listing.notes)
    assert "ansible-inventory" in said and said.endswith("it was read plainly")
    assert "hunter2" not in said


def test_what_can_be_read_by_ansible_inventory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin or a program: no places are known, and the keys are reported all the same."""
    listed = '{"_meta": {"hostvars": {"n1": {"ansible_host": "192.0.2.1", "zone": "a"}}}, "all": {"children": ["web"]},'
    listed += ' "web": {"hosts": ["n1"]}}'
    fake = tmp_path / "ansible-inventory"
    fake.write_text(f"#!/bin/sh\ncat <<'X'\n{listed}\nX\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    plugin = tmp_path / "aws_ec2.yml"
    plugin.write_text("plugin: amazon.aws.aws_ec2\n")
    listing = ansible.read(plugin)
    assert ansible.translate(listing) == {"all": [("n1", {"ssh_hostname": "192.0.2.1"})], "web": ["n1"]}
    assert sentences(listing.notes) == [f"{plugin}: zone: not known to dnsmend, not used"]


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("node[1:3]", ["node1", "node2", "node3"]),
        ("node[01:10:4]", ["node01", "node05", "node09"]),
        ("node[8:11]", ["node8", "node9", "node10", "node11"]),
        ("node[0:15:5]", ["node0", "node5", "node10", "node15"]),
        ("node[00:10:5]", ["node00", "node05", "node10"]),
        ("node[0:0]", ["node0"]),
        ("n[:3]", ["n0", "n1", "n2", "n3"]),
        ("n[:4:2]", ["n0", "n2", "n4"]),
        ("db-[a:c].x", ["db-a.x", "db-b.x", "db-c.x"]),
        ("r[1:2]n[1:2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("plain", ["plain"]),
    ],
)
def test_ranges(pattern: str, hosts: list[str]) -> None:
    assert list(expand(pattern)) == hosts


@pytest.mark.parametrize("pattern", ["n[1:c]", "n[:c]", "n[3:1]", "n[1:]", "n[001:10]", "n[1:9:0]", "n[1:999999]"])
def test_ranges_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="range"):
        list(expand(pattern))
    tree = ansible_ini.read(f"[web]\n{pattern}\ngood\n", "hosts")
    assert list(tree.hosts) == ["good"]
    assert "left out" in sentences(tree.notes)[0] and sentences(tree.notes)[0].startswith("hosts:2: ")


def test_lines_that_are_not_understood_are_said() -> None:
    text = "[web:wars]\nx=1\n[web]\nn1 stray 'a=b\nn2 flag\n[web:vars]\nnothing\n[web:children]\nghost\n"
    listing = flatten(ansible_ini.read(text, "hosts"), {}, {})
    assert list(listing.hosts) == ["n2"]
    assert sentences(listing.notes) == [
        "hosts:1: [web:wars]: a section that is not known: its lines are not used",
        "hosts:4: n1: the line cannot be read, its host is left out: No closing quotation",
        "hosts:5: flag: not key=value, not used",
        "hosts:7: nothing: a variable without a value",
        "ghost: a child of web that is no group of this inventory",
    ]


def test_yaml_that_is_not_understood_is_said() -> None:
    text = "all:\n  hosts:\n    n1:\n  host:\n    n2:\nweb: [n3]\n"
    listing = flatten(ansible_yaml.read(text, "hosts.yml"), {}, {})
    assert list(listing.hosts) == ["n1"]
    assert sentences(listing.notes) == [
        "hosts.yml:4: all.host: neither hosts, vars nor children: not used",
        "hosts.yml:6: web: a group must be a mapping of hosts, vars and children: it is left out",
    ]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("hosts.yml", "all: {hosts: [\npassword: hunter2", "hosts.yml:2: this is not YAML"),
        ("hosts.yml", "- n1\n", "hosts.yml: no inventory: groups are expected at its top"),
        ("aws.yml", "plugin: amazon.aws.aws_ec2\n", "only ansible-inventory can read it"),
        ("hosts", "#!/bin/sh\necho {}\n", "only ansible-inventory can read it"),
        ("hosts.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "only ansible-inventory can read it"),
        ("hosts", "[a:children]\nb\n[b:children]\na\n", "the group a is in itself: a > b > a"),
        ("hosts", "\udcff", "codec can't decode"),
    ],
)
def test_what_is_no_inventory_is_one_sentence(name: str, text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InventoryError) as caught:
        ansible.plainly(tmp_path / name)
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_folder_is_its_inventory_file(tmp_path: Path) -> None:
    assert list(ansible.plainly(SAMPLES / "kubespray-sample").hosts) == ["node1", "node2", "node3"]
    with pytest.raises(InventoryError, match=r"name the inventory's file: hosts, hosts\.yml of it could be one"):
        ansible.plainly(SAMPLES / "ranges")
    with pytest.raises(InventoryError, match="none of it could be one"):
        ansible.plainly(tmp_path)


@pytest.mark.parametrize("path", ["", "/nonexistent/hosts"])
def test_no_inventory_is_an_error(path: str) -> None:
    with pytest.raises(InventoryError):
        ansible.groups(path)


def test_an_inventory_without_hosts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("[kube_node]\n")
    with pytest.raises(InventoryError, match="without a host that can be reached"):
        ansible.groups(str(tmp_path / "hosts"))


def test_secrets_are_refused_and_never_said(capsys: pytest.CaptureFixture[str]) -> None:
    made = ansible.groups(str(SAMPLES / "secrets/hosts.yml"))
    assert made["all"] == [("node1", {"ssh_hostname": "192.0.2.41"}), ("node2", {}), ("node3", {})]
    said = capsys.readouterr()
    assert said.out == ""
    for line in (
        "hosts.yml:5: ansible_password: a secret, not taken over",
        "hosts.yml:6: ansible_become_password: a secret, not taken over",
        "hosts.yml:8: ansible_ssh_pass: a secret, not taken over",
        "hosts.yml:9: ansible_host: a template, not used",
        "hosts.yml:10: ansible_user: encrypted, not used",
        "hosts.yml:14: ansible_ssh_common_args: ProxyCommand: holds a password",
        "hosts.yml:15: ansible_httpapi_password: a secret, not taken over",
        "hosts.yml:17: node4: left out: its connection is not SSH (winrm)",
        "@local: left out: its name is none of a host",
    ):
        assert line in said.err
    text = (SAMPLES / "secrets/hosts.yml").read_text()
    for secret in ("correct-horse", "battery-staple", "hunter2", "hunter3", "363361", "vault_pass"):
        assert secret in text and secret not in said.err


def test_jump_hosts_become_an_ssh_configuration() -> None:
    made, notes = groups("bastion/hosts.yaml")
    assert made["bastion"] == [] and made["kube_node"] == ["node1", "node2", "node3"]
    data = dict(made["all"])
    assert "ssh_config_file" not in data["node3"], "the file that -F names is not there"
    assert {key: value for key, value in data["node1"].items() if key != "ssh_config_file"} == {"ssh_user": "centos"}
    config = Path(data["node1"]["ssh_config_file"])
    assert config.stat().st_mode & 0o777 == 0o600 and config.parent.stat().st_mode & 0o777 == 0o700
    assert config.read_text().splitlines() == [
        "Host node1",
        "    HostName 10.0.0.11",
        "    User centos",
        "    ProxyCommand ssh -W %h:%p -q jump@203.0.113.9",
        "Host node2",
        "    HostName 10.0.0.11",
        "    Port 2202",
        "    ServerAliveInterval 15",
        "    ProxyJump jump@203.0.113.9:2200",
        f"Include {Path('~/.ssh/config').expanduser().resolve()}",
        "Host *",
        "    StrictHostKeyChecking yes",
    ]
    why = "not taken over: ssh_strict_host_key_checking in group_data/all.py decides"
    assert notes == [
        "hosts.yaml:4: gate: left out: a bastion is no node",
        f"hosts.yaml:9: ansible_ssh_common_args: StrictHostKeyChecking: {why}",
        "hosts.yaml:9: ansible_ssh_common_args: UserKnownHostsFile: not taken over: host keys are checked",
        "hosts.yaml:14: ansible_ssh_extra_args: Ciphers: not known to dnsmend, not used",
        "hosts.yaml:14: ansible_ssh_extra_args: --wrong: not known to dnsmend, not used",
        "node3: the file that -F names is not there: not used",
    ]


def test_the_ssh_configuration_is_gone_when_the_process_is() -> None:
    code = "from inventories import ansible_ssh; print(ansible_ssh.write({'n': {'ProxyJump': 'gate'}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("/config")
    assert not Path(done.stdout.strip()).parent.exists()


@pytest.mark.parametrize(
    ("arguments", "found", "left"),
    [
        ("-J gate", {"ProxyJump": "gate"}, []),
        ("-Jgate -p2022 -i ~/k", {"ProxyJump": "gate", "Port": "2022", "IdentityFile": "~/k"}, []),
        ("-o ProxyJump=a -o proxyjump=b", {"ProxyJump": "a"}, []),
        ("-o 'ProxyCommand nc %h %p'", {"ProxyCommand": "nc %h %p"}, []),
        ("-o User=x=y", {"User": "x=y"}, []),
        ("-C -q -tt -4 -o ControlPath=/x/%r", {}, []),
        ("-o StrictHostKeyChecking=accept-new", {}, ["StrictHostKeyChecking"]),
        ("-L 8080:localhost:80 -o Foo=1", {}, ["-L", "an argument", "Foo"]),
        ("-J", {}, ["-J"]),
    ],
)
def test_arguments_for_ssh(arguments: str, found: dict[str, str], left: list[str]) -> None:
    taken, refused = ansible_ssh.options(arguments)
    assert taken == found
    assert list(refused) == left


@pytest.mark.parametrize(
    ("variables", "data"),
    [
        ({"ansible_become": False}, {"_sudo": False}),
        ({"ansible_become": "yes"}, {"_sudo": True}),
        ({"ansible_become": True, "ansible_become_user": "root"}, {"_sudo": True}),
        ({"ansible_become_user": "kube"}, {"_sudo_user": "kube"}),
        ({"ansible_become_method": "su"}, {"_sudo": False, "_su_user": "root"}),
        ({"ansible_become_method": "community.general.doas"}, {"_sudo": False, "_doas": True}),
        ({"ansible_become_method": "runas"}, {}),
        ({"ansible_ssh_host": "192.0.2.1", "ansible_ssh_port": "22"}, {"ssh_hostname": "192.0.2.1", "ssh_port": 22}),
        ({"ansible_host": "192.0.2.2", "ansible_ssh_host": "192.0.2.1"}, {"ssh_hostname": "192.0.2.2"}),
        ({"ansible_port": 70000}, {}),
        ({"ansible_ssh_common_args": "-p 2022"}, {"ssh_port": 2022}),
        ({"ansible_ssh_common_args": "-p many -l ops"}, {"ssh_user": "ops"}),
        ({"ansible_connection": "ansible.builtin.ssh", "ansible_user": "x"}, {"ssh_user": "x"}),
    ],
)
def test_variables(variables: dict[str, Any], data: dict[str, Any]) -> None:
    name, made, stanza, _ = ansible_vars.data("n1", {key: Var(value, "hosts:1") for key, value in variables.items()})
    assert (name, made, stanza) == ("n1", data, {})


def test_this_machine_is_local_to_pyinfra() -> None:
    listing = flatten(ansible_ini.read("[kube_node]\nnode1 ansible_connection=local\n", "hosts"), {}, {})
    assert ansible.translate(listing) == {"all": [("@local", {})], "kube_node": ["@local"]}
    assert sentences(listing.notes) == ["hosts:2: node1: is this machine: @local to pyinfra"]


def test_many_lines_with_one_key_are_one_sentence() -> None:
    text = "[web]\n" + "".join(f"n{number} foo=1\n" for number in range(100))
    listing = flatten(ansible_ini.read(text, "hosts"), {}, {})
    ansible.translate(listing)
    assert sentences(listing.notes) == ["hosts:2: foo: not known to dnsmend, not used (and 99 more lines)"]
