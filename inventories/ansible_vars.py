"""Ansible's connection variables in pyinfra's words. Secrets are refused, and no value is ever in a note."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inventories import ansible_ssh
from inventories.ansible_yaml import VAULTED
from inventories.listing import Note, Var

#: The first that is set wins: the new name before the old.
_HOST = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_KEY = ("ansible_private_key_file", "ansible_ssh_private_key_file")
_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_BECOME = ("ansible_become", "ansible_sudo")
_BECOME_USER = ("ansible_become_user", "ansible_sudo_user")
_METHODS = {"sudo": "_sudo", "su": "_su_user", "doas": "_doas"}
_ALL = (*_HOST, *_PORT, *_USER, *_KEY, *_ARGUMENTS, *_BECOME, *_BECOME_USER, "ansible_become_method")

_SECRET = re.compile(r"^ansible_.*(pass|password|passphrase|secret|token)$|^ansible_(ssh_)?pass|^ansible_.*_pass_")

#: Ansible's own business on the node, or Kubespray's about the cluster: of no weight for reaching a node.
_NEEDLESS = frozenset(
    """
    ansible_python_interpreter ansible_interpreter_python_fallback ansible_shell_type ansible_shell_executable
    ansible_ssh_pipelining ansible_pipelining ansible_ssh_executable ansible_scp_extra_args ansible_sftp_extra_args
    ansible_ssh_transfer_method ansible_scp_if_ssh ansible_ssh_retries ansible_ssh_timeout ansible_timeout
    ansible_remote_tmp ansible_become_flags ansible_become_exe ansible_group_priority ansible_connection
    ansible_host_key_checking ansible_ssh_host_key_checking
    ip ip6 access_ip access_ip6 main_ip main_access_ip etcd_member_name etcd_address node_labels node_taints
    """.split()
)


def data(host: str, variables: Mapping[str, Var]) -> tuple[str, dict[str, Any], dict[str, str], list[Note]]:
    """What pyinfra needs to reach the host, and what was not taken over.

    Returns its name there ("" if it is left out), its data, its stanza of ssh_config (empty if it needs none), notes.
    """
    notes: list[Note] = []
    usable = _usable(variables, notes)
    name, made = _connection(host, usable, notes)
    if not name:
        return "", {}, {}, notes
    for key, names in (("ssh_hostname", _HOST), ("ssh_user", _USER), ("ssh_key", _KEY)):
        if var := _first(usable, names):
            made[key] = str(var.value)
    if port := _first(usable, _PORT):
        if str(port.value).isdecimal() and 0 < int(port.value) < 65536:
            made["ssh_port"] = int(port.value)
        else:
            notes.append(Note(port.place, "ansible_port", "no port, not used"))
    made |= _become(usable, notes)
    return name, made, _stanza(host, usable, made, notes), notes


def _usable(variables: Mapping[str, Var], notes: list[Note]) -> dict[str, Var]:
    """The variables that are known and plain; all others are noted."""
    usable: dict[str, Var] = {}
    for key, var in variables.items():
        if _SECRET.search(key) and key not in _NEEDLESS:
            notes.append(
                Note(var.place, key, "a secret, not taken over: use a key or an agent, and sudo without password")
            )
        elif key in _NEEDLESS and key != "ansible_connection":
            continue
        elif key not in _ALL and key != "ansible_connection":
            notes.append(Note(var.place, key, "not known to dnsmend, not used"))
        elif var.value is VAULTED or (isinstance(var.value, dict) and "__ansible_vault" in var.value):
            notes.append(Note(var.place, key, "encrypted, not used"))
        elif isinstance(var.value, str) and ("{{" in var.value or "{%" in var.value):
            notes.append(Note(var.place, key, "a template, not used: only a playbook knows its value"))
        elif isinstance(var.value, list | dict) or "\n" in str(var.value):
            notes.append(Note(var.place, key, "must be one value on one line, not used"))
        else:
            usable[key] = var
    return usable


def _connection(host: str, variables: Mapping[str, Var], notes: list[Note]) -> tuple[str, dict[str, Any]]:
    var = variables.get("ansible_connection")
    kind = str(var.value).rpartition(".")[2] if var else "ssh"
    if kind in ("ssh", "smart", "paramiko", "paramiko_ssh", "openssh"):
        return host, {}
    assert var is not None
    if kind == "local":
        notes.append(Note(var.place, host, "is this machine: @local to pyinfra"))
        return "@local", {}
    notes.append(Note(var.place, host, f"left out: its connection is not SSH ({kind[:20]})"))
    return "", {}


def _become(variables: Mapping[str, Var], notes: list[Note]) -> dict[str, Any]:
    """How root is reached, where the inventory says so; group_data/all.py otherwise."""
    become, user = _first(variables, _BECOME), _first(variables, _BECOME_USER)
    method = variables.get("ansible_become_method")
    if become and str(become.value).lower() in ("false", "no", "0", "off"):
        return {"_sudo": False}
    kind = str(method.value).rpartition(".")[2] if method else "sudo"
    if kind not in _METHODS:
        notes.append(Note(method.place if method else "", "ansible_become_method", "not known to dnsmend, not used"))
        return {}
    whom = str(user.value) if user else "root"
    if kind == "su":
        return {"_sudo": False, "_su_user": whom}
    if kind == "doas":
        return {"_sudo": False, "_doas": True} | ({"_doas_user": whom} if whom != "root" else {})
    return ({"_sudo": True} if become else {}) | ({"_sudo_user": whom} if whom != "root" else {})


def _stanza(host: str, variables: Mapping[str, Var], made: dict[str, Any], notes: list[Note]) -> dict[str, str]:
    """The arguments for ssh as keywords. What is data to pyinfra becomes data; the rest has to be in a file."""
    keywords: dict[str, str] = {}
    for name in _ARGUMENTS:
        if name not in variables:
            continue
        place = variables[name].place
        try:
            found, left = ansible_ssh.options(str(variables[name].value))
        except ValueError as error:
            notes.append(Note(place, name, f"cannot be split into words, not used: {error}"))
            continue
        notes += [Note(place, f"{name}: {keyword}", why) for keyword, why in left.items()]
        keywords = found | keywords
    if "IdentityFile" in keywords:
        made.setdefault("ssh_key", keywords.pop("IdentityFile"))
    if "UserKnownHostsFile" in keywords and " " not in keywords["UserKnownHostsFile"]:
        made["ssh_known_hosts_file"] = str(Path(keywords.pop("UserKnownHostsFile")).expanduser())
    if "User" in keywords:
        made.setdefault("ssh_user", keywords.pop("User"))
    if (port := keywords.pop("Port", "")).isdecimal():
        made.setdefault("ssh_port", int(port))
    elif port:
        notes.append(Note("", host, "-p of its arguments for ssh is no port, not used"))
    if "Include" in keywords and not Path(keywords["Include"]).expanduser().is_file():
        notes.append(Note("", host, "the file that -F names is not there: not used"))
        del keywords["Include"]
    if not keywords:
        return {}
    if re.search(r"[\s*?!]", host):
        notes.append(Note("", host, "its name is a pattern to ssh_config(5): its arguments for ssh are not used"))
        return {}
    stanza = {"HostName": made.pop("ssh_hostname", host)}
    # For %p and %r of a ProxyCommand, and for the jump host, which is told the port.
    stanza |= {key: str(made[name]) for key, name in (("Port", "ssh_port"), ("User", "ssh_user")) if name in made}
    return stanza | keywords


def _first(variables: Mapping[str, Var], names: tuple[str, ...]) -> Var | None:
    return next((variables[name] for name in names if name in variables), None)
