"""IPVS tables that are not what kube-proxy wants, and a client that IPVS does not let go."""

from __future__ import annotations

import re
from pathlib import Path

from lab.faults.fault import ClusterFault, expect_lost
from lab.host import LabError
from lab.kubernetes import cluster, health, kube_proxy, nodes
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.places import Node
from lab.plan import plan_nodes
from lab.state import State

_SERVICE = f"{CLUSTER.dns_service}:53"

_PORT = 45678
_CLIENT = "stub-resolver.service"
_CLIENT_UNIT = f"""\
[Unit]
Description=A client in the pod that asks from one source port for ever

[Service]
NetworkNamespacePath=/run/netns/cni-client
ExecStart=/bin/sh -c 'while :; do dig +tries=1 -b ADDRESS#{_PORT} @{CLUSTER.dns_service} {SAMPLE}; sleep 1; done'
StandardOutput=null
"""


def _vip_missing(_: State, node: Node) -> str:
    kube_proxy.sync_seldom(node)
    node.run(["ip", "address", "delete", f"{CLUSTER.dns_service}/32", "dev", "kube-ipvs0"])
    route = node.run(["ip", "route", "get", CLUSTER.dns_service]).stdout.split("\n")[0].strip()
    return f"{expect_lost(node, 5, 5, queries=5)}; {route}"


def _dead_real_server(_: State, node: Node) -> str:
    kube_proxy.sync_seldom(node)
    dead = f"{_pod_network(node)}.99:53"
    for option in ("--udp-service", "--tcp-service"):
        node.run(
            ["ipvsadm", "--add-server", option, _SERVICE, "--real-server", dead, "--masquerading", "--weight", "1"]
        )
    return f"{expect_lost(node, 5, 7, queries=18)}; {dead} is a real server, and no pod has that address"


def _udp_missing(_: State, node: Node) -> str:
    kube_proxy.sync_seldom(node)
    node.run(["ipvsadm", "--delete-service", "--udp-service", _SERVICE])
    client = node.pod("client")
    udp, tcp = client.ask(CLUSTER.dns_service, SAMPLE), client.ask(CLUSTER.dns_service, SAMPLE, tcp=True)
    if (udp.kind, tcp.good) != ("refused", True):
        raise LabError(f"the fault is not live: UDP {udp}, TCP {tcp}")
    return f"pod -> {CLUSTER.dns_service}: UDP {udp}, TCP {tcp}"


def _stuck_client(record: State, node: Node) -> str:
    node.run(["sysctl", "--quiet", "--write", "net.ipv4.vs.expire_nodest_conn=0"])
    client = node.plan.pod("client").address
    node.write(f"/etc/systemd/system/{_CLIENT}", _CLIENT_UNIT.replace("ADDRESS", client))
    node.run(["systemctl", "daemon-reload"])
    node.run(["systemctl", "start", _CLIENT])
    kube_proxy.wait(node, f"ipvsadm -lnc | grep -q {client}:{_PORT}", "the client gets no IPVS connection")
    server = _server_of(node, client)
    source = next(each.name for each in plan_nodes(record.nodes) if each.pod("coredns").address == server)
    addresses = cluster.resolvers(Path(record.programs))
    free = next(each.name for each in plan_nodes(record.nodes) if each.pod("coredns").address not in addresses)
    nodes.move_resolver(record, source, free)
    kube_proxy.expect_real_servers(node, cluster.resolvers(Path(record.programs)))
    others = health.lost(node.pod("client"), CLUSTER.dns_service, SAMPLE, queries=10)
    if (stuck := _server_of(node, client)) != server or others != 0:
        raise LabError(
            f"the fault is not live: the client is with {stuck}, and {others} of 10 other questions are lost"
        )
    return f"port {_PORT} of {client} stays with {server}, which is gone; other ports lose 0 of 10"


def _server_of(node: Node, client: str) -> str:
    table = node.run(["ipvsadm", "-lnc"]).stdout
    found = re.search(rf"^UDP .* {re.escape(client)}:{_PORT} +{re.escape(_SERVICE)} +([\d.]+):53", table, re.MULTILINE)
    return found[1] if found else "no real server"


def _pod_network(node: Node) -> str:
    """The first three numbers of another node's pod network."""
    return "172.26.2" if node.plan.index else "172.26.3"


FAULTS = (
    ClusterFault("vip-missing", "the DNS service's address is missing on kube-ipvs0", _vip_missing),
    ClusterFault("dead-real-server", "a real server behind the DNS service that is not there", _dead_real_server),
    ClusterFault("udp-service-missing", "IPVS has the DNS service over TCP only", _udp_missing),
    ClusterFault(
        "stuck-udp-client",
        "expire_nodest_conn=0, and a client with one source port whose resolver pod has moved",
        _stuck_client,
    ),
)
