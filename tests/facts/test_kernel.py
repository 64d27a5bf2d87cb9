"""Sysctls, modules and build options, and the trial whether legacy iptables works."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facts.kernel import Kernel, KernelState, LegacyPreflight
from facts.reading import NodeFact, Reading

Sample = Callable[[str], list[str]]


def ask(fact: NodeFact[Any], pid: int | None = None, **options: object) -> Reading[Any]:
    enter = ["nsenter", "-t", str(pid), "-n"] if pid else []
    said = subprocess.run(
        [*enter, "sh", "-c", fact.command()],
        capture_output=True,
        text=True,
        check=True,
        **options,  # type: ignore[call-overload]
    )
    return fact.process(str(said.stdout).splitlines())


def kernel(
    folder: Path, modules: str | None = None, builtin: str | None = None, config: str | None = None
) -> KernelState:
    """The fact on a node with these files: None for one that is not there."""
    for name, content in (("modules", modules), ("modules.builtin", builtin), ("config-1", config)):
        if content is not None:
            (folder / name).write_text(content)
    fact = Kernel()
    fact.script = (
        fact.script.replace("/proc/modules", f"{folder}/modules")
        .replace("/lib/modules/$release", str(folder))
        .replace("/boot/config-$release", f"{folder}/config-1")
        .replace("/proc/config.gz", f"{folder}/config.gz")
    )
    value = ask(fact)["value"]
    assert isinstance(value, dict)
    return value  # type: ignore[return-value]


def test_loaded_built_in_and_absent(tmp_path: Path) -> None:
    state = kernel(
        tmp_path,
        modules="ip_vs 200704 4 - Live 0x0\nip_vs_rr 16384 4 - Live 0x0\n",
        builtin="kernel/net/ipv4/netfilter/ip_tables.ko\n",
        config=(
            "CONFIG_IP_VS=m\nCONFIG_BRIDGE_NETFILTER=m\nCONFIG_IP_VS_RR=m\n"
            "# CONFIG_DUMMY is not set\nCONFIG_IP_NF_IPTABLES=y\nCONFIG_NF_CONNTRACK=y\n"
        ),
    )
    assert state["modules"]["ip_vs"] == "loaded"
    assert state["modules"]["ip_tables"] == "built in"
    assert state["modules"]["nf_conntrack"] == "built in"
    assert state["modules"]["br_netfilter"] == "not loaded"
    assert state["modules"]["dummy"] == "not built"
    # Neither the configuration nor the list of built-in modules knows it.
    assert state["modules"]["nf_tables"] == "not loaded"
    assert state["config"] == {
        "CONFIG_IP_VS": "m",
        "CONFIG_BRIDGE_NETFILTER": "m",
        "CONFIG_DUMMY": "n",
        "CONFIG_IP_NF_IPTABLES": "y",
        "CONFIG_NF_CONNTRACK": "y",
    }


def test_a_kernel_without_legacy_tables(tmp_path: Path) -> None:
    """Linux 6.17 with NETFILTER_XTABLES_LEGACY=n: CONFIG_IP_NF_IPTABLES alone does not make ip_tables."""
    state = kernel(
        tmp_path,
        config=(
            "# CONFIG_NETFILTER_XTABLES_LEGACY is not set\n"
            "# CONFIG_IP_NF_IPTABLES_LEGACY is not set\nCONFIG_IP_NF_IPTABLES=m\n"
        ),
    )
    assert state["config"]["CONFIG_NETFILTER_XTABLES_LEGACY"] == "n"
    assert state["modules"]["ip_tables"] == "not built"


def test_what_a_container_does_not_know(tmp_path: Path) -> None:
    state = kernel(tmp_path, modules="ip_vs 200704 4 - Live 0x0\n")
    assert (state["modules"]["ip_vs"], state["modules"]["ip_tables"]) == ("loaded", "unknown")
    assert state["config"] == {}


def test_the_sysctls_of_a_namespace(namespace: Callable[[str], int]) -> None:
    pid = namespace(
        "ip link add veth0.1 type veth peer name b\n"
        "echo 2 >/proc/sys/net/ipv4/conf/veth0.1/rp_filter\n"
        "echo 1 >/proc/sys/net/ipv4/ip_forward"
    )
    value = ask(Kernel(), pid)["value"]
    assert isinstance(value, dict)
    sysctls = value["sysctls"]
    assert sysctls["net.ipv4.conf.veth0.1.rp_filter"] == "2"
    assert sysctls["net.ipv4.ip_forward"] == "1"
    assert "net.ipv4.conf.all.rp_filter" in sysctls


def test_everybody_may_read() -> None:
    assert ask(Kernel(), user=65534, cwd="/")["state"] == "value"


def test_nothing_is_loaded_by_looking() -> None:
    def loaded() -> list[str]:
        path = Path("/proc/modules")
        return sorted(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else []

    before = loaded()
    ask(Kernel())
    assert loaded() == before


def test_the_trial_of_legacy_touches_no_table_of_the_node(namespace: Callable[[str], int]) -> None:
    pid = namespace("")

    def tables() -> str:
        command = ["nsenter", "-t", str(pid), "-n", "cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert ask(LegacyPreflight(), pid)["value"] == [
        {"family": 4, "usable": True, "words": ""},
        {"family": 6, "usable": True, "words": ""},
    ]
    assert tables() == ""


def legacy(folder: Path, script: str | None, ipv6: bool = True, **options: object) -> Reading[Any]:
    for name in ("iptables-legacy", "ip6tables-legacy"):
        if script is not None:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
    for name in ("sh", "timeout", "tr", "sed", "awk", "id", "head", "unshare"):
        (folder / name).symlink_to(str(shutil.which(name)))
    fact = LegacyPreflight()
    command = fact.command().replace(":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin", "")
    command = command if ipv6 else command.replace("/proc/net/if_inet6", f"{folder}/if_inet6")
    said = subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": str(folder)},
        **options,  # type: ignore[call-overload]
    )
    return fact.process(str(said.stdout).splitlines())


def test_a_kernel_that_cannot_do_legacy(tmp_path: Path) -> None:
    words = "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist"
    reading = legacy(tmp_path, f'echo "{words.replace("`", chr(92) + "`")}" >&2; exit 3')
    assert reading["value"] == [
        {"family": 4, "usable": False, "words": words},
        {"family": 6, "usable": False, "words": words},
    ]


def test_a_kernel_without_ipv6_needs_no_legacy_for_it(tmp_path: Path) -> None:
    """As with ipv6.disable=1: ip6tables cannot even open its socket."""
    words = "ip6tables v1.8.9 (legacy): can't initialize ip6tables table: Address family not supported by protocol"
    script = f"""case $0 in *ip6*) echo "{words}" >&2; exit 3 ;; esac"""
    assert legacy(tmp_path, script, ipv6=False)["value"] == [{"family": 4, "usable": True, "words": ""}]


@pytest.mark.parametrize(
    ("script", "state"),
    [
        (None, "tool missing"),
        ("echo 'Another app is currently holding the xtables lock.' >&2; exit 4", "failed"),
        ("echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1", "not permitted"),
    ],
)
def test_a_trial_that_did_not_take_place(tmp_path: Path, script: str | None, state: str) -> None:
    assert legacy(tmp_path, script)["state"] == state


def test_only_root_may_try(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test gives up its rights: run it as root")
    assert ask(LegacyPreflight(), user=65534, cwd="/")["state"] == "not permitted"
