"""What a guard asks, from recorded nodes."""

from __future__ import annotations

from models.path import Names
from probes.guard import MOST_UPSTREAMS, Asked, in_cluster, programs, questions
from tests.checks.kube_fleet import VIP as SERVICE
from tests.checks.kube_fleet import node, without_kubernetes
from tests.models.fleets import option, recorded, set_upstreams

NODE_VIP = "172.25.4.1"
NAMES = Names("www.example.com", "kubernetes.default.svc.cluster.local", {"zju.edu.cn": "www.zju.edu.cn"})


def asked(found: list[Asked]) -> list[tuple[str, str, int, str, str]]:
    """Stage, address, port, protocol, and what for."""
    return [
        (each.stage, each.probe["destination"], each.probe["port"], each.probe["protocol"], each.probe["name"])
        for each in found
    ]


def test_each_stage_over_udp_and_tcp() -> None:
    read = node()
    set_upstreams(
        read,
        option("no-resolv", None),
        option("server", "/zju.edu.cn/10.10.0.21"),
        option("server", "/clusters.zjusct.io/172.28.0.2#5353"),
        option("server", "192.18.0.2"),
        option("server", NODE_VIP),
    )
    found = questions(read, [NODE_VIP], [SERVICE], NAMES, 2.0)
    assert [each for each in asked(found) if each[3] == "udp"] == [
        ("vip", NODE_VIP, 53, "udp", "version.bind"),
        ("pod", NODE_VIP, 53, "udp", "version.bind"),
        ("service", SERVICE, 53, "udp", "kubernetes.default.svc.cluster.local"),
        ("upstream", "192.18.0.2", 53, "udp", "www.example.com"),
        ("upstream", "10.10.0.21", 53, "udp", "www.zju.edu.cn"),
        ("upstream", "172.28.0.2", 5353, "udp", "clusters.zjusct.io"),
    ]
    assert [(*each[:3], "udp", each[4]) for each in asked(found) if each[3] == "tcp"] == [
        each for each in asked(found) if each[3] == "udp"
    ]
    by_stage = {each.stage: each.probe for each in found}
    assert by_stage["vip"]["rcodes"] == [] and by_stage["vip"]["rdclass"] == "CH"
    assert by_stage["upstream"]["rcodes"] == by_stage["service"]["rcodes"] == ["NOERROR", "NXDOMAIN"]
    assert by_stage["upstream"]["rdtype"] == "SOA"


def test_a_node_without_kube_proxy_asks_no_service() -> None:
    read = node()
    without_kubernetes(read)
    assert not [each for each in questions(read, [NODE_VIP], [SERVICE], NAMES, 2.0) if each.stage == "service"]
    assert questions(read, [], [SERVICE], NAMES, 2.0) == []


def test_upstreams_are_bounded() -> None:
    read = node()
    set_upstreams(read, option("no-resolv", None), *(option("server", f"192.18.0.{number}") for number in range(2, 40)))
    upstreams = [each for each in questions(read, [NODE_VIP], [], NAMES, 2.0) if each.stage == "upstream"]
    assert len(upstreams) == 2 * MOST_UPSTREAMS


def test_dns_pods_are_known_by_whom_they_ask() -> None:
    fleet = recorded()
    (pod, *_) = fleet["node-0"]["pods"]["value"]
    pod["nameservers"], pod["processes"] = [NODE_VIP], ["pause", "my-dns", "sh", "it's; rm"]
    assert programs({**fleet, "node-9": None}, {"node-0": [NODE_VIP], "node-9": []}) == [
        "coredns",
        "kube-dns",
        "my-dns",
        *sorted(_others(fleet) - {"my-dns"}),
    ]


def _others(fleet: dict) -> set[str]:  # type: ignore[type-arg]
    pods = [pod for read in fleet.values() for pod in read["pods"]["value"] if NODE_VIP in pod["nameservers"]]
    return {name for pod in pods for name in pod["processes"]} - {"pause", "sh", "sleep", "it's; rm"}


def test_a_pod_asks_the_service_for_both_kinds_of_name() -> None:
    found = in_cluster([SERVICE], NAMES.service, NAMES.default, 2.0)
    assert [(each[1], each[3], each[4]) for each in asked(found)] == [
        (SERVICE, protocol, name) for name in (NAMES.service, NAMES.default) for protocol in ("udp", "tcp")
    ]
