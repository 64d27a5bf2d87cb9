"""The checks of firewalls and of the kernel's settings: a healthy node of a cluster with one thing changed."""

from __future__ import annotations

from typing import Any

import pytest

from checks.finding import Status
from facts.conntrack import Conntrack, KernelLog
from facts.neighbours import NeighbourTables
from facts.networkd import Networkd
from facts.nft_hooks import NftHooks
from facts.snapshot import Snapshot
from probes.probe import Outcome, Result, pod, probe
from tests.checks.kube_fleet import (
    VIP,
    condensed,
    fleet,
    judged,
    node,
    reading,
    set_host,
    statuses,
    without_kubernetes,
)

POD = "172.26.2.145"
ELSEWHERE = "10.244.0.13"

# conntrack -S of a kernel 6.18 after 4000 pairs of packets that raced: settled, none of them lost.
RACED = "cpu=1 found=0 invalid=0 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0 clash_resolve=22"


def asked(destination: str, outcome: Outcome, *, name: str = f"pod {POD}", tries: int = 4) -> Result:
    asking = probe(destination, "a.example", source=pod(name, 4711, address=POD), tries=tries)
    one: Any = {"outcome": outcome, "rtt_ms": None, "rcode": None, "answers": [], "detail": ""}
    return {"probe": asking, "carrier": "bash", "tries": [one] * tries}


def forward_drop(bent: Snapshot) -> None:
    rules = {(one["backend"], one["family"]): one for one in bent["rulesets"]["value"]}
    drop = next(one for one in condensed({("nft", 4): ["*filter", ":FORWARD DROP [9:540]", "COMMIT"]}) if one["tables"])
    bent["rulesets"] = reading(list((rules | {("nft", 4): drop}).values()))


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], Status.WARN),
        ([asked("172.25.4.1", "timeout")], Status.WARN),
        ([asked(ELSEWHERE, "timeout")], Status.FAIL),
        ([asked(ELSEWHERE, "answered")], Status.PASS),
        ([asked(ELSEWHERE, "answered"), asked("10.244.0.11", "timeout")], Status.WARN),
    ],
)
def test_firewall_001_forward_drop(results: list[Result], status: Status) -> None:
    nodes = fleet()
    forward_drop(nodes["node-0"])
    found = judged(nodes, results=results)
    assert found["FIREWALL-001"]["status"] == status
    assert {check for check in statuses(found) if check.startswith(("FIREWALL", "KERNEL"))} <= {"FIREWALL-001"}
    if status is Status.FAIL:
        assert found["FIREWALL-001"]["sentence"] == (
            f"FORWARD of nft for IPv4 drops what pod {POD} asks: policy FORWARD DROP;"
            " all 4 questions that pass it are lost"
        )


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], Status.UNKNOWN),
        ([asked(ELSEWHERE, "timeout")], Status.WARN),
        ([asked(ELSEWHERE, "answered"), asked("10.244.0.11", "timeout")], Status.PASS),
    ],
)
def test_firewall_001_what_depends_on_a_mark(results: list[Result], status: Status) -> None:
    nodes = fleet()
    rule = "[9:540] -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT"
    drop = condensed({("nft", 4): ["*filter", ":FORWARD DROP [9:540]", rule, "COMMIT"]})
    nodes["node-0"]["rulesets"] = reading(drop)
    assert judged(nodes, results=results)["FIREWALL-001"]["status"] == status


def test_firewall_001_needs_no_iptables_and_no_kubernetes() -> None:
    bent = node()
    without_kubernetes(bent)
    assert judged({"node-0": bent})["FIREWALL-001"]["status"] == Status.PASS
    bent["nft_hooks"] = reading(NftHooks().read(["hook inet filter forward forward drop"]))
    found = judged({"node-0": bent})["FIREWALL-001"]
    assert (found["status"], "inet filter forward: policy drop" in found["sentence"]) == (Status.WARN, True)
    bent["nft_hooks"] = {"state": "failed", "value": [], "detail": "no memory"}
    assert judged({"node-0": bent})["FIREWALL-001"]["status"] == Status.UNKNOWN
    bent["pods"] = reading([])
    bent["nft_hooks"] = reading([])
    assert judged({"node-0": bent})["FIREWALL-001"]["status"] == Status.SKIP


FIREWALLD = [
    "hook inet firewalld filter_FORWARD forward accept",
    "= ct state { established, related } accept",
    "= jump filter_FORWARD_POLICIES",
    "= reject with icmpx admin-prohibited",
]


@pytest.mark.parametrize(
    ("running", "outcome", "status"),
    [
        (True, "answered", Status.WARN),
        (True, "timeout", Status.FAIL),
        (False, "unreachable", Status.FAIL),
        (False, "answered", Status.PASS),
    ],
)
def test_firewall_002_firewalld(running: bool, outcome: Outcome, status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["nft_hooks"] = reading(NftHooks().read(FIREWALLD))
    if running:
        firewalld: Any = nodes["node-0"]["units"]["value"][0] | {"unit": "firewalld.service", "active": "active"}
        nodes["node-0"]["units"]["value"].append(firewalld)
    found = judged(nodes, results=[asked(ELSEWHERE, outcome)])
    assert found["FIREWALL-002"]["status"] == status
    if status is Status.FAIL:
        assert "ends with reject with icmpx admin-prohibited" in found["FIREWALL-002"]["sentence"]


def counted(line: str) -> Any:
    return reading(Conntrack().read(["table 10 131072", f"tool {line}"]))


@pytest.mark.parametrize(
    ("counters", "clashes", "status"),
    [
        (RACED, None, Status.PASS),
        (RACED, 0, Status.PASS),
        (RACED.replace("insert_failed=0", "insert_failed=31"), 0, Status.PASS),
        (RACED.replace("insert_failed=0", "insert_failed=31"), 7, Status.FAIL),
        (RACED.replace("insert_failed=0", "insert_failed=31"), None, Status.UNKNOWN),
        ("cpu=0 found=4 insert_failed=31 drop=2", 7, Status.WARN),
    ],
)
def test_conntrack_003_what_grows_tells(counters: str, clashes: int | None, status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["conntrack"] = counted(counters)
    found = judged(nodes, clashes=clashes)
    assert found["CONNTRACK-003"]["status"] == status
    assert set(statuses(found)) <= {"CONNTRACK-003"}


@pytest.mark.parametrize(("clashes", "status"), [(10, Status.PASS), (50, Status.WARN), (51, Status.FAIL)])
def test_conntrack_003_what_else_passes_a_busy_node_is_no_dns(clashes: int, status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["conntrack"] = counted(RACED)
    found = judged(nodes, clashes=clashes, results=[asked(VIP, "answered", tries=1000)])
    assert found["CONNTRACK-003"]["status"] == status


@pytest.mark.parametrize(("all_", "link", "status"), [("0", "1", "warn"), ("1", "0", "warn"), ("2", "1", "pass")])
def test_kernel_001_the_higher_value_counts(all_: str, link: str, status: str) -> None:
    nodes = fleet()
    sysctls = nodes["node-0"]["kernel"]["value"]["sysctls"]
    sysctls |= {name: link for name in sysctls if ".lxc" in name} | {"net.ipv4.conf.all.rp_filter": all_}
    found = judged(nodes)
    assert found["KERNEL-001"]["status"] == status
    lost = judged(nodes, results=[asked("172.25.4.1", "timeout")])
    assert lost["KERNEL-001"]["status"] == ("fail" if status == "warn" else "pass")
    assert lost["KERNEL-001"]["operation"] == ("server.sysctl" if status == "warn" else "")


def test_kernel_001_without_the_value_it_is_unknown() -> None:
    nodes = fleet()
    nodes["node-0"]["kernel"]["value"]["sysctls"].clear()
    assert statuses(judged(nodes)) == {"KERNEL-001": Status.UNKNOWN}


def bridged(value: str | None) -> Snapshot:
    """The pods' links are ports of a bridge, and the way to them is through it."""
    bent = node()
    for one in bent["interfaces"]["value"]:
        if one["name"].startswith("lxc"):
            one["master"] = "cni0"
    bridge: Any = bent["interfaces"]["value"][0] | {"name": "cni0", "kind": "bridge", "addresses": []}
    bent["interfaces"]["value"].append(bridge)
    routing = bent["routes"]["value"]
    assert routing
    for route in routing["main"]:
        if route["interface"] == "cilium_host":
            route["interface"] = "cni0"
    sysctls = bent["kernel"]["value"]["sysctls"]
    if value is not None:
        sysctls["net.bridge.bridge-nf-call-iptables"] = value
    bent["kernel"]["value"]["modules"]["br_netfilter"] = "not loaded" if value is None else "loaded"
    return bent


@pytest.mark.parametrize(
    ("value", "outcome", "status"),
    [
        ("1", "timeout", Status.PASS),
        ("0", "answered", Status.WARN),
        ("0", "timeout", Status.FAIL),
        (None, "timeout", Status.FAIL),
    ],
)
def test_kernel_002_a_bridge_without_iptables(value: str | None, outcome: Outcome, status: Status) -> None:
    found = judged(fleet() | {"node-0": bridged(value)}, results=[asked(VIP, outcome)])
    assert found["KERNEL-002"]["status"] == status
    assert found["KERNEL-001"]["status"] == Status.PASS
    if value is None:
        assert found["KERNEL-002"]["sentence"].startswith(
            "br_netfilter is not there (not loaded): an answer that crosses"
        )


STAT = ["entries  allocs destroys res_failed table_fulls", "0000039b 00000b3b 00000c38 00000001 00000000"]


@pytest.mark.parametrize(
    ("row", "limit", "status"),
    [
        ("00000071 0 0 0 00000000", 1024, Status.PASS),
        ("00000071 0 0 0 000000ff", 1024, Status.PASS),
        ("0000039b 0 0 0 00000000", 1024, Status.WARN),
        ("0000039b 0 0 0 000000ff", 1024, Status.FAIL),
    ],
)
def test_kernel_003_neighbours(row: str, limit: int, status: Status) -> None:
    nodes = fleet()
    said = [f"table 4 {limit}", STAT[0], row, row]
    nodes["node-0"]["neighbours"] = reading(NeighbourTables().read(said))
    found = judged(nodes)
    assert found["KERNEL-003"]["status"] == status
    assert set(statuses(found)) <= {"KERNEL-003"}


def said(bent: Snapshot, text: str, about: str, ago: float) -> None:
    system = bent["system"]["value"]
    assert system
    bent["kernel_log"] = reading(KernelLog().read([f"4\t{about}\t[{system['uptime_s'] - ago:12.6f}] {text}"]))


@pytest.mark.parametrize(
    ("ago", "row", "status"),
    [
        (20, "0000039b 0 0 0 000000ff", Status.FAIL),
        (20, "00000071 0 0 0 000000ff", Status.WARN),
        (4000, "00000071 0 0 0 000000ff", Status.PASS),
    ],
)
def test_kernel_003_an_overflow_that_may_be_over(ago: float, row: str, status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["neighbours"] = reading(NeighbourTables().read(["table 4 1024", STAT[0], row]))
    said(nodes["node-0"], "neighbour: arp_cache: neighbor table overflow!", "neighbour table overflow", ago)
    assert judged(nodes)["KERNEL-003"]["status"] == status


@pytest.mark.parametrize(("ago", "status"), [(20, Status.FAIL), (4000, Status.SKIP)])
def test_kernel_003_where_only_the_log_tells(ago: float, status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["neighbours"] = reading([])
    said(nodes["node-0"], "neighbour: arp_cache: neighbor table overflow!", "neighbour table overflow", ago)
    assert judged(nodes)["KERNEL-003"]["status"] == status


@pytest.mark.parametrize(("ago", "status"), [(20, Status.FAIL), (4000, Status.PASS)])
def test_what_the_kernel_said_is_the_present_for_five_minutes(ago: float, status: Status) -> None:
    nodes = fleet()
    line = "UDP: bad checksum. From 172.16.9.99:27503 to 172.16.80.252:8472 ulen 75"
    said(nodes["node-0"], line, "bad UDP checksum", ago)
    assert judged(nodes)["KERNEL-004"]["status"] == status


@pytest.mark.parametrize(
    ("between", "since", "tunnel", "status"),
    [
        (0, 900, True, Status.PASS),
        (2, 2, True, Status.WARN),
        (7, 7, True, Status.FAIL),
        (7, 7, False, Status.WARN),
        (None, 0, True, Status.PASS),
        (None, 900, True, Status.SKIP),
    ],
)
def test_kernel_004_checksums(between: int | None, since: int, tunnel: bool, status: Status) -> None:
    nodes = fleet()
    if tunnel:
        vxlan: Any = nodes["node-0"]["interfaces"]["value"][0] | {"name": "flannel.1", "kind": "vxlan"}
        nodes["node-0"]["interfaces"]["value"].append(vxlan)
    nodes["node-0"]["udp"] = reading({"received": 48211, "bad_checksums": since})
    found = judged(nodes, bad_checksums=between)
    assert found["KERNEL-004"]["status"] == status
    assert set(statuses(found)) <= {"KERNEL-004"}


MARKED = '-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets"'


def firewall(*rules: str) -> Snapshot:
    bent = node()
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":KUBE-FIREWALL - [0:0]", "[9:540] -A INPUT -j KUBE-FIREWALL"]
    read = condensed({("legacy", 4): [*lines, *(f"[5:300] {rule}" for rule in rules), "COMMIT"]})
    bent["rulesets"] = reading(read)
    return bent


@pytest.mark.parametrize(("times", "status"), [(1, Status.PASS), (2, Status.WARN), (1200, Status.FAIL)])
def test_iptables_005_copies(times: int, status: Status) -> None:
    rule = f"{MARKED} -m mark --mark 0x8000/0x8000 -j DROP"
    found = judged(fleet() | {"node-0": firewall(*[rule] * times)})
    assert found["IPTABLES-005"]["status"] == status
    assert found["IPTABLES-006"]["status"] == Status.PASS
    if status is not Status.PASS:
        assert f"{times} times in legacy for IPv4: filter: {rule}" in found["IPTABLES-005"]["sentence"]


def test_iptables_005_names_the_version_that_does_it() -> None:
    bent = firewall(*[f"{MARKED} -m mark --mark 0x8000/0x8000 -j DROP"] * 3)
    backends = bent["alternatives"]["value"]
    assert backends
    backends["commands"][0]["version"] = "1.8.2"
    found = judged(fleet() | {"node-0": bent})["IPTABLES-005"]
    assert found["operation"] == "alternatives.backend"
    assert found["sentence"].endswith("iptables 1.8.2 (nf_tables) never finds such a rule again")


def test_iptables_005_others_may_repeat_themselves_a_little() -> None:
    foreign = ["-A ADMIN -s 192.0.2.1/32 -j DROP"]
    assert judged(fleet() | {"node-0": firewall(*foreign * 3)})["IPTABLES-005"]["status"] == Status.PASS
    assert judged(fleet() | {"node-0": firewall(*foreign * 12)})["IPTABLES-005"]["status"] == Status.WARN


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (f"{MARKED} -j DROP", Status.FAIL),
        (f"{MARKED} -m mark --mark 0x8000/0x8000 -j DROP", Status.PASS),
        ("-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP", Status.PASS),
    ],
)
def test_iptables_006_a_rule_that_has_lost_its_mark(rule: str, status: Status) -> None:
    found = judged(fleet() | {"node-0": firewall(rule)})["IPTABLES-006"]
    assert found["status"] == status
    if status is Status.FAIL:
        assert "has lost its condition and drops everything (5 packets)" in found["sentence"]


@pytest.mark.parametrize(
    ("image", "host", "status"),
    [("1.8.7", "1.8.9", Status.WARN), ("1.8.8", "1.8.9", Status.PASS), ("1.8.5", "1.8.7", Status.PASS)],
)
def test_iptables_006_versions_that_do_not_understand_each_other(image: str, host: str, status: Status) -> None:
    rule = f"[0:0] {MARKED} -m mark --mark 0x8000/0x8000 -j DROP"
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":KUBE-FIREWALL - [0:0]", "[9:540] -A INPUT -j KUBE-FIREWALL", rule]
    bent = node()
    set_host(bent, "nft", "nft")
    bent["rulesets"] = reading(condensed({("nft", 4): [*lines, "COMMIT"]}))
    bent["image_iptables"] = reading(image)
    backends = bent["alternatives"]["value"]
    assert backends
    backends["commands"][0]["version"] = host
    found = judged({"node-0": bent})["IPTABLES-006"]
    assert found["status"] == status
    assert f"kube-proxy's image: iptables {image}" in found["evidence"]


NAMES = ["name 2 bond0", "name 7 cilium_host", "name 8 flannel.1"]
BOND0 = "link 2 configured /etc/systemd/network/10-bond0.network"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([BOND0, "foreign ManageForeignRoutes yes"], Status.PASS),
        ([BOND0, "link 7 configuring /etc/systemd/network/99-all.network"], Status.WARN),
        (["policy 8 /usr/lib/systemd/network/99-default.link persistent"], Status.PASS),
        ([], Status.PASS),
    ],
)
def test_networkd_001(lines: list[str], status: Status) -> None:
    nodes = fleet()
    nodes["node-0"]["networkd"] = reading(Networkd().read([*NAMES, *lines]))
    found = judged(nodes)
    assert found["NETWORKD-001"]["status"] == status
    assert set(statuses(found)) <= {"NETWORKD-001"}


def test_networkd_001_a_mac_address_that_nobody_knows() -> None:
    nodes = fleet()
    lines = [*NAMES, "policy 8 /usr/lib/systemd/network/99-default.link persistent"]
    nodes["node-0"]["networkd"] = reading(Networkd().read(lines))
    found = judged(nodes, results=[asked(ELSEWHERE, "timeout")])["NETWORKD-001"]
    assert (found["status"], "MAC address of flannel.1" in found["sentence"]) == (Status.WARN, True)


def test_an_old_snapshot_is_not_judged() -> None:
    nodes = fleet()
    for what in ("nft_hooks", "udp", "neighbours", "networkd"):
        del nodes["node-0"][what]  # type: ignore[misc]
    found = statuses(judged(nodes))
    assert found == dict.fromkeys(("FIREWALL-001", "KERNEL-003", "KERNEL-004", "NETWORKD-001"), Status.UNKNOWN)


def test_what_is_about_a_cluster_is_skipped_elsewhere() -> None:
    bent = node()
    without_kubernetes(bent)
    found = judged({"node-0": bent})
    for check in ("CONNTRACK-003", "IPTABLES-005", "IPTABLES-006", "KERNEL-002", "NETWORKD-001"):
        assert found[check]["status"] == Status.SKIP, found[check]
