"""The IPVS table in its notations, and a node's answer put together from them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from facts.ipvs import Ipvs, IpvsTable, stale_connections
from facts.ipvs_lines import read_proc, read_save, read_stats
from facts.reading import Reading

Sample = Callable[[str], list[str]]

HEADER = ("IP Virtual", "Prot ", "  -> RemoteAddress")


def entries(lines: list[str]) -> list[str]:
    """Without the header, which the node leaves out."""
    return [line for line in lines if not line.startswith(HEADER)]


def test_services_and_real_servers(sample: Sample) -> None:
    services = read_save(sample("ipvsadm-Sn_weight0.txt"))
    assert [(s["protocol"], s["address"], s["port"], s["scheduler"], len(s["servers"])) for s in services] == [
        ("tcp", "10.32.0.1", 443, "rr", 1),
        ("tcp", "10.32.0.10", 53, "rr", 2),
        ("tcp", "10.32.0.10", 9153, "rr", 1),
        ("tcp", "10.32.0.77", 80, "rr", 2),
        ("tcp", "10.99.0.11", 30080, "rr", 2),
        ("tcp", "10.244.0.1", 30080, "rr", 2),
        ("tcp", "127.0.0.1", 30080, "rr", 2),
        ("udp", "10.32.0.10", 53, "rr", 1),
    ]
    dns = services[1]["servers"]
    assert [(s["address"], s["port"], s["forward"], s["weight"]) for s in dns] == [
        ("10.244.0.11", 53, "masq", 1),
        ("10.244.0.12", 53, "masq", 0),
    ]


def test_options_marks_and_ipv6() -> None:
    services = read_save(
        [
            "-A -f 7 -s wlc",
            "-a -f 7 -r 10.244.0.11:0 -g -w 1",
            "-A -u [fd00::a]:53 -s rr -p 10800 -M 128",
            "-a -u [fd00::a]:53 -r [fd00:1::11]:53 -i -w 3 -x 10 -y 5",
        ]
    )
    assert [(s["protocol"], s["fwmark"], s["address"], s["port"], s["options"]) for s in services] == [
        ("fwmark", 7, "", 0, []),
        ("udp", 0, "fd00::a", 53, ["-p", "10800", "-M", "128"]),
    ]
    assert [(s["address"], s["forward"], s["weight"]) for service in services for s in service["servers"]] == [
        ("10.244.0.11", "route", 1),
        ("fd00:1::11", "tunnel", 3),
    ]


def test_proc_says_the_same_as_ipvsadm(sample: Sample) -> None:
    def ends(services: list[dict[str, object]]) -> set[tuple[object, ...]]:
        return {
            (s["protocol"], s["address"], s["port"], s["scheduler"], r["address"], r["port"], r["forward"], r["weight"])
            for s in services
            for r in s["servers"]  # type: ignore[attr-defined]
        }

    proc = read_proc(entries(sample("proc-net-ip_vs.txt")))
    assert ends(proc) == ends(read_save(sample("ipvsadm-Sn.txt")))  # type: ignore[arg-type]


def test_proc_has_connections_ipv6_and_marks() -> None:
    services = read_proc(
        [
            "UDP  [fd00:0000:0000:0000:0000:0000:0000:000a]:0035 rr persistent 10800 00000080 ops",
            "  -> [fd00:0001:0000:0000:0000:0000:0000:0011]:0035      Masq    1      2          30",
            "FWM  00000010 wlc  ",
            "  -> 0AF4000B:0000      Local   1      0          0",
        ]
    )
    assert [(s["address"], s["port"], s["fwmark"], s["options"]) for s in services] == [
        ("fd00::a", 53, 0, ["-p", "-o"]),
        ("", 0, 16, []),
    ]
    server = services[0]["servers"][0]
    assert (server["address"], server["active"], server["inactive"]) == ("fd00:1::11", 2, 30)
    assert services[1]["servers"][0]["forward"] == "route"


def test_counters(sample: Sample) -> None:
    counters = read_stats(entries(sample("ipvsadm-ln-stats_traffic.txt")))["udp 10.32.0.10 53 0"]
    assert counters[""] == {
        "connections": 83,
        "in_packets": 83,
        "out_packets": 83,
        "in_bytes": 4399,
        "out_bytes": 5810,
    }
    assert counters["10.244.0.11 53"]["connections"] == 51


@pytest.mark.parametrize("line", ["-D -u 10.32.0.10:53", "rubbish"])
def test_another_line_is_not_understood(line: str) -> None:
    with pytest.raises(ValueError, match="no line of ipvsadm"):
        read_save([line])


def node(folder: Path, sample: Sample, *, ipvsadm: bool = True) -> Ipvs:
    """The fact, reading a node whose files and ipvsadm give the recorded answers."""
    for name in ("proc-net-ip_vs.txt", "proc-net-ip_vs_conn.txt", "ipvsadm-Sn.txt", "ipvsadm-ln-stats-exact.txt"):
        (folder / name).write_text("\n".join(sample(name)) + "\n")
    (folder / "vs").mkdir()
    (folder / "vs" / "conntrack").write_text("1\n")
    (folder / "vs" / "expire_nodest_conn").write_text("0\n")
    (folder / "kube-ipvs0").mkdir()
    tools = {
        "ip": 'for i in 1 2 3; do echo "7: kube-ipvs0    inet 10.32.0.$i/32 scope global kube-ipvs0"; done',
        "ipvsadm": f'[ "$*" = -Sn ] && exec cat {folder}/ipvsadm-Sn.txt\ncat {folder}/ipvsadm-ln-stats-exact.txt',
    }
    for name, script in tools.items():
        if name != "ipvsadm" or ipvsadm:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
    fact = Ipvs()
    fact.script = f"PATH={folder}:/usr/bin:/bin\n" + fact.script.replace(
        "/proc/net/ip_vs_conn", f"{folder}/proc-net-ip_vs_conn.txt"
    ).replace("/proc/net/ip_vs", f"{folder}/proc-net-ip_vs.txt", 2).replace(
        "/proc/sys/net/ipv4/vs", f"{folder}/vs"
    ).replace("/sys/class/net", str(folder))
    return fact


def answer(fact: Ipvs, **options: object) -> Reading[IpvsTable | None]:
    said = subprocess.run(
        ["sh", "-c", fact.command()],
        capture_output=True,
        text=True,
        check=True,
        **options,  # type: ignore[call-overload]
    )
    return fact.process(str(said.stdout).splitlines())


def test_a_node(tmp_path: Path, sample: Sample) -> None:
    reading = answer(node(tmp_path, sample))
    table = reading["value"]
    assert table is not None, reading["detail"]
    assert (table["support"], table["tool"], table["total_services"]) == ("loaded", True, 8)
    # Those of port 53 come first.
    assert [(s["protocol"], s["address"], s["port"]) for s in table["services"]][:3] == [
        ("tcp", "10.32.0.10", 53),
        ("udp", "10.32.0.10", 53),
        ("tcp", "10.32.0.1", 443),
    ]
    assert len(table["services"]) == 8
    assert all(service["counters"] is not None for service in table["services"])
    assert (table["device"], table["addresses"], table["total_addresses"]) == (
        True,
        ["10.32.0.1", "10.32.0.2", "10.32.0.3"],
        3,
    )
    assert table["sysctls"] == {"conntrack": "1", "expire_nodest_conn": "0"}
    assert [
        (c["protocol"], c["destination"], c["state"], c["entries"], c["longest"]) for c in table["connections"]
    ] == [
        ("tcp", "10.244.0.12", "ESTABLISHED", 1, 892),
        ("udp", "10.244.0.11", "UDP", 5, 244),
        ("tcp", "10.244.0.11", "ESTABLISHED", 1, 892),
    ]
    assert stale_connections(table) == []


def test_without_ipvsadm_proc_stands_in(tmp_path: Path, sample: Sample) -> None:
    table = answer(node(tmp_path, sample, ipvsadm=False))["value"]
    assert table is not None
    assert (table["tool"], len(table["services"])) == (False, 8)
    assert [service["counters"] for service in table["services"]] == [None] * 8


def test_connections_to_a_server_that_is_gone(tmp_path: Path, sample: Sample) -> None:
    fact = node(tmp_path, sample)
    for name, server in (("ipvsadm-Sn.txt", "-r 10.244.0.11:53"), ("ipvsadm-ln-stats-exact.txt", "10.244.0.11:53 ")):
        lines = (tmp_path / name).read_text().splitlines()
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines if server not in line))
    table = answer(fact)["value"]
    assert table is not None
    assert [(c["protocol"], c["destination"], c["entries"]) for c in stale_connections(table)] == [
        ("udp", "10.244.0.11", 5),
        ("tcp", "10.244.0.11", 1),
    ]


def test_a_loaded_ip_vs_without_services(tmp_path: Path, sample: Sample) -> None:
    fact = node(tmp_path, sample)
    for name in ("proc-net-ip_vs.txt", "ipvsadm-Sn.txt", "ipvsadm-ln-stats-exact.txt"):
        (tmp_path / name).write_text("\n".join(sample("proc-net-ip_vs.txt")[:3]) + "\n" if "Sn" not in name else "")
    table = answer(fact)["value"]
    assert table is not None
    assert (table["support"], table["tool"], table["services"]) == ("loaded", True, [])


def unloaded(folder: Path, modules: str | None, dependencies: str | None) -> Ipvs:
    """The fact on a node without /proc/net/ip_vs, where any ipvsadm would betray itself."""
    (folder / "ipvsadm").write_text(f"#!/bin/sh\ntouch {folder}/asked\n")
    (folder / "ipvsadm").chmod(0o755)
    (folder / "lib").mkdir()
    if modules is not None:
        (folder / "modules").write_text(modules)
    if dependencies is not None:
        (folder / "lib" / "modules.dep").write_text(dependencies)
    fact = Ipvs()
    fact.script = f"PATH={folder}:$PATH\n" + (
        fact.script.replace("/proc/net/ip_vs", f"{folder}/no-such-file")
        .replace("/proc/modules", f"{folder}/modules")
        .replace("/lib/modules/$release", f"{folder}/lib")
        .replace("/sys/class/net", str(folder))
    )
    return fact


@pytest.mark.parametrize(
    ("modules", "dependencies", "support"),
    [
        ("dummy 16384 0\n", "kernel/net/netfilter/ipvs/ip_vs.ko: kernel/lib/libcrc32c.ko\n", "not loaded"),
        ("dummy 16384 0\n", "kernel/net/netfilter/nf_tables.ko:\n", "no kernel support"),
        ("dummy 16384 0\n", None, "unknown"),
        (None, None, "no kernel support"),
    ],
)
def test_why_there_is_no_table(tmp_path: Path, modules: str | None, dependencies: str | None, support: str) -> None:
    table = answer(unloaded(tmp_path, modules, dependencies))["value"]
    assert table is not None
    assert (table["support"], table["tool"], table["services"]) == (support, True, [])
    assert not (tmp_path / "asked").exists(), "ipvsadm would have loaded ip_vs"


def test_only_root_may_read() -> None:
    reading = answer(Ipvs(), user=65534, cwd="/")
    assert (reading["state"], reading["value"]) == ("not permitted", None)


def test_this_machine_is_read_without_loading_ip_vs() -> None:
    listed = Path("/proc/net/ip_vs").exists()
    modules = Path("/proc/modules")
    before = modules.read_text().count("\n") if modules.exists() else 0
    assert answer(Ipvs())["state"] == "value"
    assert Path("/proc/net/ip_vs").exists() == listed
    assert (modules.read_text().count("\n") if modules.exists() else 0) == before


def test_many_services_are_cut_but_never_those_of_dns(tmp_path: Path, sample: Sample) -> None:
    fact = node(tmp_path, sample)
    lines = [f"-A -t 10.{40 + i // 65000}.{i // 250 % 250}.{i % 250}:80 -s rr" for i in range(3500)]
    (tmp_path / "ipvsadm-Sn.txt").write_text("\n".join([*lines, *sample("ipvsadm-Sn.txt")]) + "\n")
    reading = answer(fact)
    table = reading["value"]
    assert table is not None, reading["detail"]
    assert table["total_services"] == 3508
    assert [(s["protocol"], s["port"], len(s["servers"])) for s in table["services"]][:2] == [
        ("tcp", 53, 2),
        ("udp", 53, 2),
    ]
    assert "truncated: 3000 of" in reading["detail"]
