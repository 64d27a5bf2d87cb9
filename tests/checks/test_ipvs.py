"""The checks of IPVS: each fires on a healthy fleet with one thing changed, and only it."""

from __future__ import annotations

from typing import Any

import pytest

from checks import remedies
from checks.finding import Status
from facts.interfaces import Interface
from facts.ipvs_lines import Connection
from facts.snapshot import Snapshot
from probes.probe import Result
from tests.checks.kube_fleet import VIP, fleet, judged, real_server, real_servers, statuses

STUCK: Connection = {
    "protocol": "udp",
    "virtual": VIP,
    "virtual_port": 53,
    "destination": "10.244.0.12",
    "port": 53,
    "state": "UDP",
    "entries": 3,
    "longest": 294,
}


def table(node: Snapshot) -> Any:
    return node["ipvs"]["value"]


def without_service(node: Snapshot, protocol: str) -> None:
    services = table(node)["services"]
    services[:] = [one for one in services if (one["protocol"], one["port"]) != (protocol, 53)]


def test_001_needs_counters() -> None:
    found = judged(fleet(), ipvs_deltas={})
    assert statuses(found) == {"IPVS-001": Status.UNKNOWN}


@pytest.mark.parametrize(
    ("delta", "status"),
    [
        ((20, 20), Status.PASS),
        ((20, 31), Status.PASS),
        ((20, 12), Status.WARN),
        ((20, 0), Status.FAIL),
        ((0, 0), Status.UNKNOWN),
    ],
)
def test_001_compares_what_was_sent_and_counted(delta: tuple[int, int], status: Status) -> None:
    found = judged(fleet(), ipvs_deltas={VIP: delta})
    assert found["IPVS-001"]["status"] == status
    assert set(statuses(found)) <= {"IPVS-001"}
    # No rule is to blame here, so that removing rules would be no remedy.
    assert found["IPVS-001"]["operation"] == ""


def test_001_is_not_for_a_node_where_cilium_does_the_services() -> None:
    nodes = fleet()
    proxy = nodes["node-0"]["kube_proxy"]["value"]
    assert proxy
    proxy["cilium"] = {"pid": 812, "replacement": "true"}
    assert statuses(judged(nodes, ipvs_deltas={VIP: (20, 0)})) == {"IPVS-001": Status.SKIP}
    proxy["cilium"] = {"pid": 812, "replacement": "false"}
    assert statuses(judged(nodes, ipvs_deltas={VIP: (20, 0)})) == {"IPVS-001": Status.FAIL}


def test_001_without_ipvsadm_says_what_is_missing() -> None:
    nodes = fleet()
    said = judged(nodes, ipvs_deltas={})["IPVS-001"]["sentence"]
    assert said == f"nothing counts the connections to {VIP}: install ipvsadm on this node"
    table(nodes["node-0"])["tool"] = True
    assert judged(nodes, ipvs_deltas={})["IPVS-001"]["sentence"].startswith("nobody has counted")


@pytest.mark.parametrize(
    ("replacement", "counted", "status"),
    [("false", 12, Status.PASS), ("", 12, Status.PASS), ("false", 11, Status.WARN), ("false", 0, Status.FAIL)],
)
def test_001_cilium_takes_what_pods_ask_beside_kube_proxy_too(replacement: str, counted: int, status: Status) -> None:
    nodes = fleet()
    own, pods = asked(VIP, *["answered"] * 12), asked(VIP, *["answered"] * 12)
    pods["probe"]["source"]["netns"] = "/proc/4711/ns/net"
    given: dict[str, Any] = {"results": [own, pods], "ipvs_deltas": {VIP: (24, counted)}}
    assert judged(nodes, **given)["IPVS-001"]["status"] == (Status.WARN if counted else Status.FAIL)
    proxy = nodes["node-0"]["kube_proxy"]["value"]
    assert proxy
    proxy["cilium"] = {"pid": 812, "replacement": replacement}
    assert judged(nodes, **given)["IPVS-001"]["status"] == status


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_002_names_the_missing_protocol(protocol: str) -> None:
    nodes = fleet()
    without_service(nodes["node-0"], protocol)
    found = judged(nodes, ipvs_deltas={VIP: (20, 20 if protocol == "tcp" else 0)})
    # Without a UDP service there is nothing that could count.
    assert statuses(found) == {"IPVS-002": Status.FAIL} | ({"IPVS-001": Status.SKIP} if protocol == "udp" else {})
    assert found["IPVS-002"]["operation"] == "ipvs.resync"
    assert found["IPVS-002"]["sentence"] == (
        f"IPVS has no {protocol.upper()} service for {VIP}:53; node-1 and node-2 have it"
    )
    assert statuses(judged(nodes, "node-1")) == {}


def test_002_a_service_that_is_meant_for_udp_alone_is_not_the_clusters_dns() -> None:
    nodes = fleet()
    for node in nodes.values():
        udp = next(one for one in table(node)["services"] if (one["protocol"], one["port"]) == ("udp", 53))
        table(node)["services"].append({**udp, "address": "10.32.0.99"})
    assert statuses(judged(nodes)) == {}


def test_002_an_empty_table() -> None:
    nodes = fleet()
    table(nodes["node-0"])["services"] = []
    found = judged(nodes)
    assert (
        found["IPVS-002"]["sentence"] == f"IPVS has no UDP and no TCP service for {VIP}:53; node-1 and node-2 have it"
    )
    assert statuses(found) == {
        "IPVS-001": Status.SKIP,
        "IPVS-002": Status.FAIL,
        "IPVS-003": Status.SKIP,
        "IPVS-004": Status.SKIP,
    }


def test_003_names_what_the_others_have() -> None:
    nodes = fleet()
    real_servers(nodes["node-0"], "udp").pop()
    found = judged(nodes)
    assert statuses(found) == {"IPVS-003": Status.FAIL}
    assert found["IPVS-003"]["sentence"] == f"UDP {VIP}:53 lacks 10.244.0.13:53, which most other nodes have"
    assert "node-0: 10.244.0.11:53" in found["IPVS-003"]["evidence"]
    assert statuses(judged(nodes, "node-1")) == {}


def test_003_the_endpoint_slices_win() -> None:
    nodes = fleet()
    ends = ["10.244.0.11:53", "10.244.0.13:53", "10.244.0.14:53"]
    found = judged(nodes, endpoints={VIP: ends})
    assert statuses(found) == {"IPVS-003": Status.FAIL}
    assert found["IPVS-003"]["sentence"] == f"UDP {VIP}:53 lacks 10.244.0.14:53, which the EndpointSlices name"


def test_003_no_real_server_that_takes_connections() -> None:
    nodes = fleet()
    for node in nodes.values():
        for server in real_servers(node, "tcp"):
            server["weight"] = 0
    found = judged(nodes)
    assert statuses(found) == {"IPVS-003": Status.FAIL}
    assert "has no real server that takes connections" in found["IPVS-003"]["sentence"]


def test_003_without_a_ready_endpoint_kube_proxy_is_right() -> None:
    """All CoreDNS pods are pending, say: to restart kube-proxy everywhere would help nobody."""
    nodes = fleet()
    for node in nodes.values():
        for protocol in ("udp", "tcp"):
            real_servers(node, protocol).clear()
    found = judged(nodes, endpoints={VIP: []})
    assert (found["IPVS-003"]["status"], found["IPVS-003"]["operation"]) == (Status.FAIL, "")
    assert found["IPVS-003"]["sentence"].endswith("since the EndpointSlices name no endpoint that is ready")
    assert "why is none ready" in remedies.fix("IPVS-003", "", list(nodes), nodes)
    assert remedies.fix("IPVS-003", "ipvs.resync", list(nodes), nodes) == "pyinfra inventory deploys/fix_dns.py -y"


def test_003_and_004_of_two_nodes_nobody_knows_which_is_right() -> None:
    nodes = fleet()
    del nodes["node-2"]
    real_servers(nodes["node-0"], "udp").append(real_server("10.244.0.12"))
    assert statuses(judged(nodes)) == {"IPVS-004": Status.WARN}
    assert statuses(judged(nodes, "node-1")) == {"IPVS-003": Status.WARN}


def test_004_names_what_nobody_else_has() -> None:
    nodes = fleet()
    real_servers(nodes["node-0"], "udp").append(real_server("10.244.0.12"))
    found = judged(nodes)
    assert statuses(found) == {"IPVS-004": Status.FAIL}
    assert found["IPVS-004"]["operation"] == "ipvs.resync"
    assert found["IPVS-004"]["sentence"] == (
        f"UDP {VIP}:53 sends queries to 10.244.0.12:53: none of node-1 and node-2 has it"
    )
    for other in ("node-1", "node-2"):
        assert statuses(judged(nodes, other)) == {}


def test_004_weight_0_is_normal_for_tcp_only() -> None:
    nodes = fleet()
    real_servers(nodes["node-0"], "tcp").append(real_server("10.244.0.12", weight=0))
    assert statuses(judged(nodes)) == {}
    real_servers(nodes["node-0"], "udp").append(real_server("10.244.0.12", weight=0))
    assert statuses(judged(nodes)) == {"IPVS-004": Status.FAIL}


def asked(address: str, *outcomes: str) -> Result:
    result: Any = {
        "probe": {
            "source": {"name": "pod kube-system/client", "netns": "", "address": "10.244.0.5"},
            "destination": address,
            "port": 53,
            "protocol": "udp",
            "name": "kubernetes.default.svc.cluster.local",
            "rdtype": "A",
            "rdclass": "IN",
            "tries": len(outcomes),
            "deadline_s": 1.0,
            "rcodes": [],
        },
        "tries": [{"outcome": outcome, "rtt_ms": None, "rcode": "", "detail": ""} for outcome in outcomes],
    }
    return result  # type: ignore[no-any-return]


def test_004_a_real_server_that_does_not_answer() -> None:
    dead, alive = asked("10.244.0.13", "timeout", "timeout"), asked("10.244.0.11", "timeout", "answered")
    found = judged(fleet(), results=[dead, alive])
    assert statuses(found) == {"IPVS-004": Status.FAIL}
    assert found["IPVS-004"]["sentence"] == f"UDP {VIP}:53 sends queries to 10.244.0.13:53, which does not answer"
    assert any("timeout 2" in line for line in found["IPVS-004"]["evidence"])
    assert statuses(judged(fleet(), results=[alive, asked("10.244.0.13", "not sent")])) == {}


def only(nodes: dict[str, Snapshot], given: dict[str, str]) -> None:
    """Each node sends queries to this real server and to no other one."""
    for name, address in given.items():
        for protocol in ("udp", "tcp"):
            real_servers(nodes[name], protocol)[:] = [real_server(address)]


def runs_coredns(node: Snapshot, address: str) -> None:
    pod: Any = {**node["pods"]["value"][0], "addresses": [address], "processes": ["pause", "coredns"]}
    node["pods"]["value"].append(pod)


LOCAL = {"node-0": "10.244.0.11", "node-1": "10.244.0.13", "node-2": "10.244.0.15"}


def test_003_and_004_each_node_may_have_a_real_server_of_its_own() -> None:
    nodes = fleet()
    only(nodes, LOCAL)
    assert statuses(judged(nodes)) == {"IPVS-004": Status.FAIL}
    answers = [asked("10.244.0.11", "answered")]
    assert statuses(judged(nodes, results=answers)) == {}
    slices = {VIP: [f"{address}:53" for address in LOCAL.values()]}
    assert statuses(judged(nodes, endpoints=slices)) == {}
    assert statuses(judged({"node-0": nodes["node-0"]}, endpoints=slices)) == {"IPVS-003": Status.FAIL}
    del nodes["node-2"]
    assert statuses(judged(nodes, results=answers)) == {}
    nodes = fleet()
    only(nodes, LOCAL)
    for name, address in LOCAL.items():
        runs_coredns(nodes[name], address)
    for name in LOCAL:
        assert statuses(judged(nodes, name)) == {}


def test_003_and_004_a_zone_may_have_real_servers_of_its_own() -> None:
    nodes = fleet()
    only(nodes, {"node-0": "10.244.0.11", "node-1": "10.244.0.13", "node-2": "10.244.0.13"})
    for name, address in (("node-0", "10.244.0.11"), ("node-1", "10.244.0.13")):
        runs_coredns(nodes[name], address)
    for name in nodes:
        assert statuses(judged(nodes, name)) == {}
    # One that has missed that a CoreDNS was added has the others in common with them.
    for name in ("node-1", "node-2"):
        real_servers(nodes[name], "udp").append(real_server("10.244.0.11"))
    assert statuses(judged(nodes)) == {"IPVS-003": Status.FAIL}


def test_003_a_load_balancers_address_may_lead_to_the_nodes_own_pods() -> None:
    """externalTrafficPolicy: Local. Nobody in the cluster asks that address."""
    nodes = fleet() | {"node-3": fleet()["node-0"]}
    local = {"node-0": ["10.244.0.11"], "node-1": ["10.244.0.13"]}
    for name, node in nodes.items():
        servers = [real_server(pod) for pod in local.get(name, ["10.244.0.11", "10.244.0.13"])]
        like = [one for one in table(node)["services"] if one["port"] == 53]
        table(node)["services"] += [{**one, "address": "192.168.10.53", "servers": servers} for one in like]
        table(node)["addresses"].append("192.168.10.53")
        for pod in local.get(name, []):
            runs_coredns(node, pod)
    assert judged(nodes)["IPVS-003"]["status"] == Status.FAIL
    nodes["node-2"]["pods"]["value"][0]["nameservers"] = [VIP]
    assert statuses(judged(nodes)) == {}


def test_004_what_has_just_answered_is_not_dead() -> None:
    nodes = fleet()
    slices = {VIP: ["10.244.0.11:53"]}
    assert statuses(judged(nodes, endpoints=slices)) == {"IPVS-004": Status.FAIL}
    answer = asked("10.244.0.13", "answered")
    assert statuses(judged(nodes, endpoints=slices, results=[answer])) == {}
    answer["probe"]["protocol"] = "icmp"
    assert statuses(judged(nodes, endpoints=slices, results=[answer])) == {"IPVS-004": Status.FAIL}


def test_005_the_address_is_missing() -> None:
    nodes = fleet()
    table(nodes["node-0"])["addresses"].remove(VIP)
    found = judged(nodes, ipvs_deltas={VIP: (20, 0)})
    assert statuses(found) == {"IPVS-005": Status.FAIL, "IPVS-001": Status.SKIP}
    assert f"{VIP} is not on kube-ipvs0" in found["IPVS-005"]["sentence"]
    table(nodes["node-0"]).update(device=False, addresses=[])
    assert judged(nodes)["IPVS-005"]["status"] == Status.FAIL


def test_005_another_interface_may_hold_it() -> None:
    nodes = fleet()
    table(nodes["node-0"])["addresses"].remove(VIP)
    lo: Interface = next(one for one in nodes["node-0"]["interfaces"]["value"] if one["name"] == "lo")
    lo["addresses"].append({**lo["addresses"][0], "address": VIP, "prefix": 32})
    found = judged(nodes)
    assert statuses(found) == {}
    assert found["IPVS-005"]["sentence"] == f"{VIP} is on lo"


def test_006_a_stuck_client() -> None:
    nodes = fleet()
    table(nodes["node-0"])["sysctls"]["expire_nodest_conn"] = "0"
    assert statuses(judged(nodes)) == {"IPVS-006": Status.WARN}
    table(nodes["node-0"])["connections"] = [STUCK]
    # conntrack remembers the same flow; the remedy is IPVS's.
    nodes["node-0"]["dns_flows"]["value"][0] |= {"reply_source": "10.244.0.12", "unreplied": 2}
    found = judged(nodes)
    assert statuses(found) == {"IPVS-006": Status.FAIL}
    assert found["IPVS-006"]["operation"] == "sysctl.settings"
    assert found["IPVS-006"]["sentence"] == (
        "3 UDP connections are kept for 10.244.0.12, which is no real server any more, and"
        " net.ipv4.vs.expire_nodest_conn=0 drops their packets"
    )


def test_006_with_the_setting_in_force_stale_connections_end_by_themselves() -> None:
    nodes = fleet()
    table(nodes["node-0"])["connections"] = [STUCK]
    found = judged(nodes)
    assert statuses(found) == {}
    assert any("stay with 10.244.0.12:53 for up to 294 s" in line for line in found["IPVS-006"]["evidence"])
