"""Both backends' rules, read from real ones in network namespaces, and what reading must not do."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pyinfra.api.exceptions import FactValueError

from facts.netfilter import KubeRules, NftTables, Ruleset, Save
from facts.netfilter_table import dnat_targets, hints
from facts.reading import NodeFact, Reading

SAMPLES = Path(__file__).parent / "samples"

Namespace = Callable[[str], int]
Value = TypeVar("Value")


def load(backend: str, sample: str, family: int = 4) -> str:
    """A command that puts a recorded ruleset into the namespace that it runs in."""
    tool = "iptables" if family == 4 else "ip6tables"
    # Not every kernel that tests run on has hashlimit.
    return f"sed -e 1d -e /hashlimit/d {SAMPLES / sample} | {tool}-{backend}-restore -c"


def inside(pid: int, command: str) -> str:
    run = ["nsenter", "-t", str(pid), "-n", "sh", "-c", command]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


def ask(fact: NodeFact[Value], pid: int, *arguments: object) -> Reading[Value]:
    return fact.process(inside(pid, fact.command(*arguments)).splitlines())


def rulesets(reading: Reading[list[Ruleset]]) -> dict[tuple[str, int], Ruleset]:
    assert reading["state"] == "value", reading["detail"]
    return {(ruleset["backend"], ruleset["family"]): ruleset for ruleset in reading["value"]}


def kernel_state(pid: int) -> tuple[str, str]:
    """The namespace's legacy and nft tables, and the node's modules (a kernel without modules has no such file)."""
    tables = inside(pid, "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names; nft list ruleset")
    modules = Path("/proc/modules")
    names = [line.split()[0] for line in modules.read_text().splitlines()] if modules.exists() else []
    return tables, " ".join(sorted(names))


def test_rules_in_both_backends(namespace: Namespace) -> None:
    pid = namespace(
        "\n".join(
            (
                load("nft", "iptables-nft-save-c_mixed.txt"),
                load("legacy", "iptables-legacy-save-c_mixed.txt"),
                load("nft", "ip6tables-nft-save_iptables-mode.txt", family=6),
            )
        )
    )
    found = rulesets(ask(KubeRules(), pid))
    assert {key: ruleset["state"] for key, ruleset in found.items()} == {
        ("nft", 4): "value",
        ("legacy", 4): "value",
        ("nft", 6): "value",
        ("legacy", 6): "empty",
    }
    for backend in ("nft", "legacy"):
        tables = {table["name"]: table for table in found[backend, 4]["tables"]}
        assert sorted(tables) == ["filter", "mangle", "nat", "raw"]
        assert tables["nat"]["rules"]["kube"] == 14
        assert hints(tables["mangle"]) == ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"]
        assert [way["to"] for way in dnat_targets(tables["nat"])] == ["10.244.0.99:53", "10.244.0.12:53"]
    assert found["legacy", 4]["registered"] == ["filter", "mangle", "nat", "raw"]
    six = {table["name"]: hints(table) for table in found["nft", 6]["tables"]}
    assert six["mangle"] == ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"]


@pytest.mark.parametrize(
    ("fact", "arguments"),
    [
        (KubeRules(), ()),
        (NftTables(), ()),
        (Save(), ("nft", 4)),
        (Save(), ("legacy", 4)),
        (Save(), ("legacy", 6)),
    ],
)
@pytest.mark.parametrize("script", ["", "iptables-nft -A INPUT -j ACCEPT", "iptables-legacy -A INPUT -j ACCEPT"])
def test_looking_creates_no_table_and_loads_no_module(
    namespace: Namespace, script: str, fact: NodeFact[Any], arguments: tuple[object, ...]
) -> None:
    pid = namespace(script)
    before = kernel_state(pid)
    assert ask(fact, pid, *arguments)["state"] in ("value", "empty")
    assert kernel_state(pid) == before


def test_a_table_that_was_created_by_looking_would_be_seen(namespace: Namespace) -> None:
    pid = namespace("")
    before = kernel_state(pid)
    inside(pid, "iptables-legacy-save -t nat")
    assert kernel_state(pid) != before


def test_nothing_but_empty_rulesets_on_a_fresh_node(namespace: Namespace) -> None:
    found = rulesets(ask(KubeRules(), namespace("")))
    assert [ruleset["state"] for ruleset in found.values()] == ["empty"] * 4
    assert ask(NftTables(), namespace(""))["state"] == "empty"


def test_an_empty_legacy_table_is_a_table(namespace: Namespace) -> None:
    found = rulesets(ask(KubeRules(), namespace("iptables-legacy -t nat -S >/dev/null")))
    legacy = found["legacy", 4]
    assert (legacy["state"], legacy["registered"]) == ("value", ["nat"])
    assert [table["rules"] for table in legacy["tables"]] == [{}]


def test_a_table_that_only_nft_can_read_is_told(namespace: Namespace) -> None:
    native = "\n".join(
        (
            "nft add table ip nat",
            "nft 'add chain ip nat PREROUTING { type nat hook prerouting priority -50; }'",
            "nft add rule ip nat PREROUTING udp dport '{53, 5353}' redirect to :1053",
            "iptables-nft -A INPUT -j ACCEPT",
        )
    )
    found = rulesets(ask(KubeRules(), namespace(native)))
    assert found["nft", 4]["incompatible"] == ["nat"]
    assert [table["rules"] for table in found["nft", 4]["tables"] if table["name"] == "filter"] == [{"admin": 1}]


def test_native_tables(namespace: Namespace) -> None:
    pid = namespace("nft add table ip kube-proxy\nnft add table inet firewalld\niptables-nft -A INPUT -j ACCEPT")
    assert ask(NftTables(), pid)["value"] == ["ip kube-proxy", "inet firewalld", "ip filter"]


@pytest.mark.parametrize(
    ("backend", "sample"),
    [("nft", "iptables-nft-save-c_mixed.txt"), ("legacy", "iptables-legacy-save-c_mixed.txt")],
)
def test_a_save_is_complete_and_can_be_restored(namespace: Namespace, backend: str, sample: str) -> None:
    pid = namespace(load(backend, sample))
    reading = ask(Save(), pid, backend, 4)
    assert (reading["state"], reading["detail"].replace("# Warning: iptables-legacy tables present", "")[:1]) == (
        "value",
        "",
    )

    def plain(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert plain(reading["value"]) == plain(inside(pid, f"iptables-{backend}-save -c"))
    subprocess.run(
        ["nsenter", "-t", str(pid), "-n", f"iptables-{backend}-restore", "-c", "--test"],
        input=reading["value"],
        text=True,
        check=True,
    )


def test_a_save_keeps_every_byte(namespace: Namespace) -> None:
    pid = namespace("iptables-nft -A INPUT -m comment --comment 'für alle \"hier\"' -j ACCEPT")
    assert '--comment "für alle \\"hier\\""' in ask(Save(), pid, "nft", 4)["value"]


def test_a_save_that_is_too_large_is_a_failure_and_no_cut(namespace: Namespace) -> None:
    fact = Save()
    fact.most = 200
    reading = ask(fact, namespace(load("nft", "iptables-nft-save-c_mixed.txt")), "nft", 4)
    assert (reading["state"], reading["value"]) == ("failed", "")
    assert "larger than 200 bytes" in reading["detail"]


def test_a_save_of_nothing_is_empty(namespace: Namespace) -> None:
    for backend in ("nft", "legacy"):
        assert ask(Save(), namespace(""), backend, 6)["value"] == ""


@pytest.mark.parametrize(("backend", "family"), [("nft; reboot", 4), ("legacy", "4; reboot"), ("nft", 5)])
def test_a_save_takes_no_other_words(backend: str, family: int) -> None:
    with pytest.raises(FactValueError):
        Save().command(backend, family)  # type: ignore[arg-type]


def limited(folder: Path, fact: NodeFact[list[Ruleset]], **scripts: str) -> Reading[list[Ruleset]]:
    """The fact on a node with coreutils and these scripts only, in a fresh network namespace."""
    for name in ("sh", "timeout", "tr", "sed", "awk", "id", "cat", "sort", "head", "uname", "grep", "sha256sum"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in scripts.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    command = fact.command().replace(":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin", "")
    said = subprocess.run(
        [str(shutil.which("unshare")), "-n", "/bin/sh", "-c", command],
        capture_output=True,
        text=True,
        env={"PATH": str(folder)},
        check=True,
    )
    return fact.process(said.stdout.splitlines())


def test_without_iptables_the_tool_is_missing(tmp_path: Path) -> None:
    reading = limited(tmp_path, KubeRules())
    assert (reading["state"], reading["value"]) == ("tool missing", [])
    assert "iptables-save not found" in reading["detail"]


def test_one_backend_without_its_tool(tmp_path: Path) -> None:
    found = rulesets(limited(tmp_path, KubeRules(), iptables_legacy_save="exit 0"))
    assert found["nft", 4]["state"] == "tool missing"


@pytest.mark.parametrize(
    ("version", "backend"), [("v1.8.4 (nf_tables)", "nft"), ("v1.8.4 (legacy)", "legacy"), ("v1.6.1", "legacy")]
)
def test_a_node_whose_commands_do_not_name_their_backend(tmp_path: Path, version: str, backend: str) -> None:
    save = "printf '*filter\\n:INPUT ACCEPT [0:0]\\n[0:0] -A INPUT -j ACCEPT\\nCOMMIT\\n'"
    fact = KubeRules()
    fact.script = fact.script.replace("cat /proc/net/ip_tables_names", "echo filter")
    found = rulesets(limited(tmp_path, fact, iptables=f"echo 'iptables {version}'", iptables_save=save))
    states = {key: ruleset["state"] for key, ruleset in found.items() if key[1] == 4}
    other = "nft" if backend == "legacy" else "legacy"
    assert states == {(backend, 4): "value", (other, 4): "tool missing"}
    assert found["legacy", 4]["registered"] == ["filter"]


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("echo 'Could not fetch rule set generation id: Permission denied' >&2; exit 4", "not permitted"),
        ("echo 'Failed to initialize nft: Protocol not supported' >&2; exit 1", "failed"),
        ("printf '*nat\\n:OUTPUT ACCEPT [0:0]\\n'", "failed"),
    ],
)
def test_one_save_fails(tmp_path: Path, script: str, state: str) -> None:
    found = rulesets(limited(tmp_path, KubeRules(), iptables_nft_save=script, ip6tables_nft_save="exit 0"))
    assert found["nft", 4]["state"] == state
    assert found["nft", 4]["detail"]
    assert found["nft", 6]["state"] == "empty"


@pytest.mark.parametrize(("fact", "arguments"), [(KubeRules(), ()), (NftTables(), ()), (Save(), ("nft", 4))])
def test_only_root_may_read(fact: NodeFact[Any], arguments: tuple[object, ...]) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test gives up its rights: run it as root")
    said = subprocess.run(
        ["sh", "-c", fact.command(*arguments)], capture_output=True, text=True, check=True, user=65534, cwd="/"
    )
    assert fact.process(said.stdout.splitlines())["state"] == "not permitted"


def test_an_unloaded_nf_tables_is_not_asked(tmp_path: Path) -> None:
    """A kernel with modules, of which nf_tables is neither loaded nor built in."""
    (tmp_path / "modules.builtin").write_text("kernel/net/core/failover.ko\n")
    fact = KubeRules()
    fact.script = (
        fact.script.replace("/proc/modules", "/proc/version")
        .replace("/sys/module/nf_tables", "/nonexistent")
        .replace("/lib/modules/$(uname -r)", str(tmp_path))
    )
    found = rulesets(limited(tmp_path, fact, iptables_nft_save="echo asked >&2; exit 1"))
    assert (found["nft", 4]["state"], found["nft", 4]["detail"]) == ("empty", "")


def many_rules(count: int) -> str:
    """A kube-proxy's table in iptables mode with `count` rules or some more, one of its services being DNS."""
    chains = ["KUBE-SERVICES", "KUBE-MARK-MASQ"]
    endpoints: list[str] = []
    services: list[str] = []
    number = 0
    while 8 * number < count:
        ip, port, protocol = (
            f"10.{32 + number // 65536}.{number // 256 % 256}.{number % 256}",
            80 + number % 9000,
            "tcp",
        )
        if number == 10:
            port, protocol = 53, "udp"
        name = "kube-system/coredns:dns" if number == 10 else f"ns-{number % 50}/service-{number}:http"
        service = f"KUBE-SVC-{number:016d}"
        chains.append(service)
        match = f'-p {protocol} -m comment --comment "{name} cluster IP" -m {protocol} --dport {port}'
        services.append(f"-A KUBE-SERVICES ! -s 10.244.0.0/16 -d {ip}/32 {match} -j KUBE-MARK-MASQ")
        services.append(f"-A KUBE-SERVICES -d {ip}/32 {match} -j {service}")
        for end in range(2):
            chain = f"KUBE-SEP-{number:015d}{end}"
            chains.append(chain)
            to = f"10.244.{number % 250}.{end * 100 + number % 99}"
            endpoints.append(f'-A {chain} -s {to}/32 -m comment --comment "{name}" -j KUBE-MARK-MASQ')
            endpoints.append(
                f'-A {chain} -p {protocol} -m comment --comment "{name}" -m {protocol} -j DNAT '
                f"--to-destination {to}:{port}"
            )
            chance = "-m statistic --mode random --probability 0.50000000000 " if end == 0 else ""
            services.append(f'-A {service} -m comment --comment "{name}" {chance}-j {chain}')
        number += 1
    head = ["*nat", ":PREROUTING ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", *(f":{chain} - [0:0]" for chain in chains)]
    jump = '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    return "\n".join([*head, jump, *endpoints, *services, "COMMIT", ""])


def processor_seconds(pid: int, command: str) -> tuple[float, str]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = inside(pid, command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_30_000_rules(namespace: Namespace, tmp_path: Path, backend: str) -> None:
    """A few kilobytes leave the node; what condensing costs is about what legacy's save costs, less than nft's."""
    (tmp_path / "rules").write_text(many_rules(30_000))
    pid = namespace(f"iptables-{backend}-restore <{tmp_path / 'rules'}")
    saves, _ = processor_seconds(pid, f"LC_ALL=C iptables-{backend}-save -c >/dev/null")
    whole, said = processor_seconds(pid, KubeRules().command())
    found = rulesets(KubeRules().process(said.splitlines()))[backend, 4]["tables"][0]
    assert found["rules"] == {"kube": 30_001}
    assert found["hashed"] == {"SVC": 3750, "SEP": 7500}
    assert [way["to"] for way in dnat_targets(found)] == ["10.244.10.10:53", "10.244.10.110:53"]
    assert len(said) < 5_000
    # Twice what the saves take, and a constant for the four of them, with room for a busy machine.
    assert whole < 3 * saves + 0.5, f"saves {saves:.2f} s, the fact {whole:.2f} s, {len(said)} bytes"
