"""Alternatives in Debian's and RHEL's notation, and the backend that a command says it has."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from facts.alternatives import Alternatives, Backends
from facts.reading import Reading

Sample = Callable[[str], list[str]]

TOOLS = ("sh", "timeout", "tr", "sed", "awk", "head", "stat", "readlink")


def answer(path: Path | None = None) -> Reading[Backends | None]:
    environment = os.environ | ({"PATH": str(path)} if path else {})
    fact = Alternatives()
    command = fact.command()
    if path:
        # The prelude adds the usual folders, in which this machine's own tools are.
        command = command.replace(":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin", "")
    said = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=environment, check=True)
    return fact.process(said.stdout.splitlines())


def node(folder: Path, **scripts: str) -> Path:
    """A PATH with coreutils and these scripts only."""
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in scripts.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    return folder


def queried(sample: Sample, name: str) -> Backends:
    lines = ["query iptables 1790000000", *(f"= {line}" for line in sample(name))]
    found = Alternatives().read(lines)
    assert found is not None
    return found


def test_the_default_of_debian_is_nft_in_auto(sample: Sample) -> None:
    assert queried(sample, "update-alternatives-query-iptables_auto.txt")["groups"] == [
        {
            "name": "iptables",
            "link": "/usr/sbin/iptables",
            "status": "auto",
            "best": "/usr/sbin/iptables-nft",
            "value": "/usr/sbin/iptables-nft",
            "choices": [
                {
                    "path": "/usr/sbin/iptables-legacy",
                    "priority": 10,
                    "slaves": {
                        "iptables-restore": "/usr/sbin/iptables-legacy-restore",
                        "iptables-save": "/usr/sbin/iptables-legacy-save",
                    },
                },
                {
                    "path": "/usr/sbin/iptables-nft",
                    "priority": 20,
                    "slaves": {
                        "iptables-restore": "/usr/sbin/iptables-nft-restore",
                        "iptables-save": "/usr/sbin/iptables-nft-save",
                    },
                },
            ],
            "changed": 1790000000,
        }
    ]


def test_manual_legacy_beside_ip6tables_in_auto(sample: Sample) -> None:
    four = queried(sample, "update-alternatives-query-iptables_manual_legacy.txt")["groups"][0]
    six = queried(sample, "update-alternatives-query-ip6tables_auto.txt")["groups"][0]
    assert (four["status"], four["value"], four["best"]) == (
        "manual",
        "/usr/sbin/iptables-legacy",
        "/usr/sbin/iptables-nft",
    )
    assert (six["name"], six["status"], six["value"]) == ("ip6tables", "auto", "/usr/sbin/ip6tables-nft")


def test_rhel_has_one_group_with_ip6tables_as_a_slave(sample: Sample) -> None:
    lines = ["display iptables 7", *(f"= {line}" for line in sample("alternatives-display_rhel.txt"))]
    found = Alternatives().read(lines)
    assert found is not None
    group = found["groups"][0]
    assert (group["name"], group["status"]) == ("iptables", "manual")
    assert (group["value"], group["best"]) == ("/usr/sbin/iptables-legacy", "/usr/sbin/iptables-nft")
    assert [(choice["path"], choice["priority"]) for choice in group["choices"]] == [
        ("/usr/sbin/iptables-nft", 10),
        ("/usr/sbin/iptables-legacy", 5),
    ]
    assert group["choices"][1]["slaves"]["ip6tables"] == "/usr/sbin/ip6tables-legacy"


@pytest.mark.parametrize(
    ("said", "version", "backend"),
    [
        ("iptables v1.8.9 (nf_tables)", "1.8.9", "nft"),
        ("iptables v1.8.7 (legacy)", "1.8.7", "legacy"),
        ("iptables v1.6.1", "1.6.1", "legacy"),
        ("sh: 1: iptables: Exec format error", "", ""),
    ],
)
def test_the_backend_of_a_version(said: str, version: str, backend: str) -> None:
    found = Alternatives().read(["command iptables /usr/sbin/iptables /usr/sbin/xtables-nft-multi", f"= {said}"])
    assert found is not None
    command = found["commands"][0]
    assert (command["version"], command["backend"]) == (version, backend)
    assert command["program"] == "/usr/sbin/xtables-nft-multi"


def test_the_tools_of_this_machine() -> None:
    reading = answer()
    assert reading["state"] == "value", reading["detail"]
    assert reading["value"] is not None
    groups = {group["name"]: group for group in reading["value"]["groups"]}
    assert {"iptables", "ip6tables"} <= groups.keys()
    for command in reading["value"]["commands"]:
        value = groups[command["name"]]["value"]
        assert command["backend"] == value.rpartition("-")[2]
        assert command["program"] == os.path.realpath(value)
    link = Path("/etc/alternatives/iptables")
    assert groups["iptables"]["changed"] == int(link.lstat().st_mtime)


def test_the_tools_of_rhel(tmp_path: Path, sample: Sample) -> None:
    """Its update-alternatives does not know --query, and is asked in the other way."""
    display = "\n".join(sample("alternatives-display_rhel.txt"))
    script = f'[ "$1 $2" = "--display iptables" ] || exit 2\ncat <<"EOF"\n{display}\nEOF'
    path = node(tmp_path, alternatives=script, update_alternatives="exit 2", iptables="echo iptables v1.8.8 '(legacy)'")
    (path / "cat").symlink_to(str(shutil.which("cat")))
    reading = answer(path)
    assert reading["value"] is not None
    assert [group["name"] for group in reading["value"]["groups"]] == ["iptables"]
    assert [(c["name"], c["backend"]) for c in reading["value"]["commands"]] == [("iptables", "legacy")]


def test_a_node_without_iptables_is_empty(tmp_path: Path) -> None:
    reading = answer(node(tmp_path, update_alternatives='echo "error: no alternatives for $2" >&2; exit 2'))
    assert (reading["state"], reading["value"]) == ("empty", None)


def test_another_notation_is_a_failure() -> None:
    fact = Alternatives()
    lines = ["display iptables 0", "= iptables: no idea"]
    reading = fact.reading({"output": lines, "errors": [], "code": 0})
    assert reading["state"] == "failed"
    assert "no alternative for iptables" in reading["detail"]
