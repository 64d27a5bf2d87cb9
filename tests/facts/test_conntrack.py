"""Connection tracking: the recorded counters, real flows in a network namespace, and the kernel's log."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facts.conntrack import NO_TOOL, Conntrack, DnsFlows, KernelLog, not_deletable
from facts.reading import NodeFact, Reading

Sample = Callable[[str], list[str]]

# Three queries to a VIP that is sent elsewhere and never answered, one to a server that answers, and one flow that is
# no DNS although its client's port is 53.
QUERIES = r"""
import socket
def udp(): return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server, other = udp(), udp()
server.bind(("127.0.0.1", 53))
other.bind(("127.0.0.1", 5000))
for _ in range(3):
    udp().sendto(b"question", ("10.32.0.10", 53))
client = udp()
client.sendto(b"question", ("127.0.0.1", 53))
_, asker = server.recvfrom(100)
server.sendto(b"answer", asker)
client.recv(100)
server.sendto(b"no DNS", ("127.0.0.1", 5000))
"""


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


@pytest.fixture
def flows(namespace: Callable[[str], int]) -> int:
    """A namespace with tracked flows."""
    pid = namespace(
        "ip addr add 10.9.9.9/32 dev lo\n"
        "ip route add 10.32.0.0/16 dev lo\n"
        "iptables-nft -t nat -A OUTPUT -d 10.32.0.10 -p udp --dport 53 -j DNAT --to 127.0.0.2:5300"
    )
    subprocess.run(["nsenter", "-t", str(pid), "-n", "python3", "-c", QUERIES], check=True)
    return pid


EXPECTED = [
    {
        "family": 4,
        "protocol": "udp",
        "destination": "10.32.0.10",
        "reply_source": "127.0.0.2",
        "flows": 3,
        "unreplied": 3,
    },
    {
        "family": 4,
        "protocol": "udp",
        "destination": "127.0.0.1",
        "reply_source": "127.0.0.1",
        "flows": 1,
        "unreplied": 0,
    },
]


def summed(reading: Reading[Any]) -> list[dict[str, object]]:
    assert reading["state"] == "value", reading["detail"]
    assert isinstance(reading["value"], list)
    for flow in reading["value"]:
        assert 0 < flow.pop("longest") <= 120
    return sorted(reading["value"], key=lambda flow: str(flow["destination"]))


def test_real_flows(flows: int) -> None:
    assert summed(ask(DnsFlows(), flows)) == EXPECTED


def test_without_the_kernels_file_conntrack_is_asked(flows: int) -> None:
    fact = DnsFlows()
    fact.script = fact.script.replace("/proc/net/nf_conntrack", "/nonexistent")
    assert summed(ask(fact, flows)) == EXPECTED


def test_flows_that_can_be_read_and_not_be_deleted(flows: int) -> None:
    fact = DnsFlows()
    assert not_deletable(ask(fact, flows)) == ""
    fact.script = fact.script.replace("command -v conntrack", "command -v no-conntrack")
    reading = ask(fact, flows)
    assert not_deletable(reading) == NO_TOOL
    assert summed(reading) == EXPECTED
    fact.script = fact.script.replace("/proc/net/nf_conntrack", "/nonexistent")
    assert not_deletable(ask(fact, flows)).startswith("its tracked flows are not known: tool missing: conntrack not")


def test_the_kernels_file_has_ipv6_addresses_in_full(tmp_path: Path) -> None:
    pod, answering = "fd26:0000:0000:0000:0000:0000:0000:0145", "fd26:0000:0000:0000:0000:0000:0000:0099"
    # net/netfilter/nf_conntrack_standalone.c prints them with %pI6.
    flow = (
        f"ipv6     10 udp      17 29 src={pod} dst=fd00:0010:0096:0000:0000:0000:0000:000a sport=40000 dport=53"
        f" [UNREPLIED] src={answering} dst={pod} sport=53 dport=40000 mark=0 zone=0 use=2\n"
    )
    (tmp_path / "nf_conntrack").write_text(flow)
    (tmp_path / "nf_conntrack_count").write_text("1\n")
    fact = DnsFlows()
    fact.script = fact.script.replace("/proc/net/nf_conntrack", f"{tmp_path}/nf_conntrack")
    fact.script = fact.script.replace("/proc/sys/net/netfilter", str(tmp_path))
    (seen,) = ask(fact)["value"]
    assert (seen["destination"], seen["reply_source"]) == ("fd00:10:96::a", "fd26::99")
    assert (seen["family"], seen["flows"], seen["unreplied"], seen["longest"]) == (6, 1, 1, 29)


@pytest.mark.parametrize("fact", [Conntrack(), DnsFlows()])
def test_a_module_is_not_loaded_to_look(fact: NodeFact[Any], tmp_path: Path) -> None:
    """A kernel with modules, without files for its connections, on which conntrack would betray itself."""
    (tmp_path / "conntrack").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "conntrack").chmod(0o755)
    fact = type(fact)()
    fact.script = f"PATH={tmp_path}:$PATH\n" + (
        fact.script.replace("/proc/net/", "/nonexistent/")
        .replace("/proc/modules", "/proc/version")
        .replace("/sys/module/", "/nonexistent/")
        .replace("/lib/modules/", "/nonexistent/")
    )
    reading = ask(fact)
    assert "would load nf_conntrack_netlink" in reading["detail"]
    # The counts are known all the same; that there are no flows is not.
    assert reading["state"] == ("value" if isinstance(fact, Conntrack) else "failed")
    assert not (tmp_path / "asked").exists()


def test_sizes_and_counters_of_this_machine(flows: int) -> None:
    value = ask(Conntrack(), flows)["value"]
    assert isinstance(value, dict)
    assert value["count"] >= 4
    assert value["maximum"] > 0
    assert {"drop", "insert_failed", "early_drop", "clash_resolve"} <= value["cpus"][0].keys()


def test_counters_of_proc(sample: Sample) -> None:
    lines = ["table 1 131072", *(f"proc {line}" for line in sample("proc-net-stat-nf_conntrack.txt"))]
    value = Conntrack().read(lines)
    assert value is not None
    assert (value["count"], value["maximum"]) == (1, 131072)
    (cpu,) = value["cpus"]
    assert (cpu["found"], cpu["invalid"], cpu["drop"], cpu["insert_failed"]) == (2, 6, 0, 0)
    assert "entries" not in cpu


def test_counters_of_conntrack(sample: Sample) -> None:
    lines = ["table 10 20", *(f"tool {line}" for line in sample("conntrack-S_full.txt"))]
    value = Conntrack().read(lines)
    assert value is not None
    assert [(cpu["drop"], cpu["early_drop"], cpu["found"]) for cpu in value["cpus"]] == [(604, 7, 2)]


def test_a_kernel_that_tracks_nothing_is_empty() -> None:
    for fact in (Conntrack(), DnsFlows()):
        fact.script = fact.script.replace("/proc/sys/net/netfilter", "/nonexistent")
        assert ask(fact)["state"] == "empty"


def test_only_root_may_read() -> None:
    for fact in (Conntrack(), DnsFlows()):
        assert ask(fact, user=65534, cwd="/")["state"] == "not permitted"


def test_the_recorded_flows_of_an_incident(sample: Sample, tmp_path: Path) -> None:
    recorded = "\n".join(f"ipv4     2 {line}" for line in sample("conntrack-L_unreplied.txt"))
    (tmp_path / "nf_conntrack").write_text(recorded + "\n")
    fact = DnsFlows()
    fact.script = fact.script.replace("/proc/net/nf_conntrack", str(tmp_path / "nf_conntrack"))
    value = ask(fact)["value"]
    assert isinstance(value, list)
    assert [(flow["reply_source"], flow["flows"], flow["unreplied"], flow["longest"]) for flow in value] == [
        ("10.244.9.99", 7, 7, 29),
        ("10.244.0.11", 2, 0, 29),
        ("10.244.0.13", 1, 0, 28),
    ]


LOG = """\
[    1.000000] Linux version 6.1.0
[   14.227013] neighbour: arp_cache: neighbor table overflow!
[ 1171.693992] nf_conntrack: nf_conntrack: table full, dropping packet
[ 1182.125725] nf_conntrack: nf_conntrack: table full, dropping packet
[ 1190.000000] UDP: bad checksum. From 10.0.0.1:8472 to 10.0.0.2:8472 ulen 58
"""


def logged(folder: Path, script: str) -> Reading[Any]:
    (folder / "dmesg").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "dmesg").chmod(0o755)
    fact = KernelLog()
    fact.script = f"PATH={folder}:$PATH\n" + fact.script
    return ask(fact)


def test_the_kernels_log(tmp_path: Path) -> None:
    assert logged(tmp_path, f"cat <<'EOF'\n{LOG}EOF")["value"] == [
        {
            "about": "bad UDP checksum",
            "times": 1,
            "last": "[ 1190.000000] UDP: bad checksum. From 10.0.0.1:8472 to 10.0.0.2:8472 ulen 58",
        },
        {
            "about": "conntrack table full",
            "times": 2,
            "last": "[ 1182.125725] nf_conntrack: nf_conntrack: table full, dropping packet",
        },
        {
            "about": "neighbour table overflow",
            "times": 1,
            "last": "[   14.227013] neighbour: arp_cache: neighbor table overflow!",
        },
    ]


def test_the_recorded_log_of_a_full_table(tmp_path: Path, sample: Sample) -> None:
    (tmp_path / "log").write_text("\n".join(sample("dmesg-conntrack-full.txt")) + "\n")
    value = logged(tmp_path, f"cat {tmp_path}/log")["value"]
    assert [(line["about"], line["times"]) for line in value] == [("conntrack table full", 4)]


def test_a_log_without_complaints_is_empty(tmp_path: Path) -> None:
    assert logged(tmp_path, "echo '[ 1.0] Linux version 6.1.0'")["state"] == "empty"


def test_a_log_that_may_not_be_read(tmp_path: Path) -> None:
    denied = "echo 'dmesg: read kernel buffer failed: Operation not permitted' >&2; exit 1"
    assert logged(tmp_path, denied)["state"] == "not permitted"
