"""What a guard asks, from recorded nodes."""

from __future__ import annotations

from models.path import Names
from probes.guard import MOST_UPSTREAMS, Asked, in_cluster, programs, questions
from tests.checks.kube_fleet import VIP as SERVICE
from tests.checks.kube_fleet import node, without_kubernetes
from tests.models.fleets import add_pod, option, pod, recorded, set_upstreams

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


#: The recorded nodes' DNS pods run unbound, and are known by the pods that have them in their resolv.conf.
VIPS = {"node-0": [NODE_VIP], "node-1": ["172.25.4.2"], "node-9": []}


def test_dns_pods_are_known_by_who_asks_them() -> None:
    fleet = recorded()
    assert programs({**fleet, "node-9": None}, VIPS, []) == ["coredns", "kube-dns", "unbound"]
    pod(fleet["node-0"], "172.26.2.53")["processes"] = ["pause", "my-dns", "sh", "dig", "it's; rm"]
    assert programs(fleet, VIPS, []) == ["coredns", "kube-dns", "my-dns", "unbound"]
    # Nobody asks them, or they ask somebody else than dnsmasq.
    for read in fleet.values():
        for each in read["pods"]["value"]:
            each["nameservers"] = ["192.0.2.53"]
    assert programs(fleet, VIPS, []) == ["coredns", "kube-dns"]


def test_what_only_has_the_nodes_resolv_conf_is_no_dns_pod() -> None:
    fleet = recorded()
    web = add_pod(fleet["node-0"], "172.26.2.145", "172.26.2.200", 900, NODE_VIP)
    web["processes"] = ["nginx"]
    assert "nginx" not in programs(fleet, VIPS, [])
    # A container of docker's that answers DNS is no pod of the cluster.
    dns = pod(fleet["node-0"], "172.26.2.53")
    dns["cgroup"] = "/system.slice/docker-0f.scope"
    pod(fleet["node-1"], "172.26.3.53")["processes"] = ["coredns"]
    assert programs(fleet, VIPS, []) == ["coredns", "kube-dns"]


def test_what_runs_for_a_moment_beside_coredns_changes_no_name() -> None:
    fleet = recorded()
    for name, address in (("node-0", "172.26.2.53"), ("node-1", "172.26.3.53")):
        pod(fleet[name], address)["processes"] = ["pause", "coredns", "reloader"]
    assert programs(fleet, VIPS, []) == ["coredns", "kube-dns"]


def test_a_pod_asks_the_service_for_both_kinds_of_name() -> None:
    found = in_cluster([SERVICE], NAMES.service, NAMES.default, 2.0)
    assert [(each[1], each[3], each[4]) for each in asked(found)] == [
        (SERVICE, protocol, name) for name in (NAMES.service, NAMES.default) for protocol in ("udp", "tcp")
    ]
