"""Whose address dnsmasq serves, who asks it, and where they arrive: on recorded snapshots, bent to other networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from checks import dnsmasq_001, dnsmasq_003, kernel_001
from checks.case import Case
from checks.finding import Status
from facts.dnsmasq import Instance
from facts.dnsmasq_options import read_options
from facts.interfaces import Interface
from facts.routes import Route
from facts.snapshot import Snapshot
from models import node
from models.dnsmasq_edits import with_text
from models.needs import Need
from models.refused import Refused
from operations import dnsmasq
from tests.checks import kube_fleet
from tests.models import fleets
from tests.models.fleets import Fleet

VIP = "172.25.4.1"
K8S = "/etc/dnsmasq.d/k8s.conf"
INCIDENT = "bind-dynamic\nexcept-interface=cilium_*\n"


def configured(read: Snapshot, text: str) -> None:
    """The node's dnsmasq reads this, and no other file of its conf-dir says anything."""
    given = read["dnsmasq"]["value"]
    empty = {path: "" for path, file in given["files"].items() if file["kind"] == "file" and "dnsmasq.d/" in path}
    given["files"] = with_text(given["files"], {**empty, K8S: text})
    for instance in given["instances"]:
        instance["options"], instance["files"] = read_options(instance["argv"], given["files"])


def link(
    name: str, kind: str, address: str = "", prefix: int = 24, index: int = 90, peer: int | None = None
) -> Interface:
    own = {"family": 6 if ":" in address else 4, "address": address, "prefix": prefix, "label": name, "scope": "global"}
    addresses = [{**own, "deprecated": False, "tentative": False}] if address else []
    about = {"name": name, "index": index, "kind": kind, "state": "up", "mtu": 1450, "master": "", "peer": peer}
    return cast(Interface, {**about, "addresses": addresses})


def route(destination: str, interface: str, gateway: str = "") -> Route:
    about = {"destination": destination, "gateway": gateway, "interface": interface, "source": "", "metric": 0}
    return cast(Route, {**about, "family": 6 if ":" in destination else 4, "type": "unicast", "flags": []})


def routes(read: Snapshot) -> list[Route]:
    routing = read["routes"]["value"]
    assert routing
    return routing["main"]


def listening(read: Snapshot, address: str, process: str, pid: int) -> None:
    for protocol in ("udp", "tcp"):
        about = {"protocol": protocol, "address": address, "interface": "", "port": 53, "process": process, "pid": pid}
        read["sockets"]["value"].append(cast(Any, {**about, "owners": [{"process": process, "pid": pid}]}))


def silenced(read: Snapshot) -> None:
    """Nobody listens on port 53."""
    read["sockets"]["value"] = [socket for socket in read["sockets"]["value"] if socket["port"] != 53]


def with_another(read: Snapshot, unit: str, address: str, interface: str) -> Instance:
    """Another program's dnsmasq, as libvirt starts one."""
    given = read["dnsmasq"]["value"]
    path = "/var/lib/libvirt/dnsmasq/default.conf"
    given["files"] = with_text(given["files"], {path: f"bind-dynamic\nexcept-interface=lo\ninterface={interface}\n"})
    argv = ["/usr/sbin/dnsmasq", f"--conf-file={path}", "--leasefile-ro"]
    options, files = read_options(argv, given["files"])
    instance = {**given["instances"][0], "pid": 900, "unit": unit, "argv": argv, "options": options, "files": files}
    given["instances"].append(cast(Instance, instance))
    read["interfaces"]["value"].append(link(interface, "bridge", address))
    routes(read).append(route(f"{address.rpartition('.')[0]}.0/24", interface))
    listening(read, address, "dnsmasq", 900)
    return given["instances"][-1]


def changes(fleet: Fleet, given: Sequence[str] | None = None, policy: str = "except-lo") -> list[dnsmasq.Change]:
    served = node.vips(fleet, given)["node-0"]
    return dnsmasq.changes("node-0", fleet, policy=policy, foreign=["virbr*"], served=served)


def judged(fleet: Fleet, given: Sequence[str] | None = None) -> list[tuple[str, Status]]:
    case = Case("node-0", fleet, node.vips(fleet, given)["node-0"], [])
    return [(one["sentence"], one["status"]) for one in dnsmasq_001.check(case)]


def left_alone(fleet: Fleet) -> bool:
    """Nothing is planned, and nothing is wrong but that no probe was made."""
    return not changes(fleet) and all("no pod on this node could be asked" in said for said, _ in judged(fleet))


UNITS = [
    "libvirtd.service",
    "virtnetworkd.service",
    "lxc-net.service",
    "lxd.service",
    "snap.lxd.daemon.service",
    "incus.service",
    "NetworkManager.service",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_dnsmasq_that_another_program_runs_is_never_the_clusters(unit: str) -> None:
    fleet = fleets.recorded()
    with_another(fleet["node-0"], unit, "192.168.122.1", "virbr0")
    resolved = fleet["node-0"]["resolved"]["value"]
    assert resolved
    resolved["links"] = [{"interface": "virbr0", "servers": ["192.168.122.1"], "domains": ["~vm.lan"]}]
    assert node.vips(fleet, None)["node-0"] == (VIP,)
    assert left_alone(fleet)


def test_a_node_that_is_a_virtual_machine_makes_no_address_of_another_nodes_libvirt() -> None:
    fleet = fleets.recorded()
    with_another(fleet["node-0"], "libvirtd.service", "192.168.122.1", "virbr0")
    fleets.set_uplinks(fleet["node-1"], "192.168.122.1")
    assert node.vips(fleet, None)["node-0"] == (VIP,)


def test_where_only_another_programs_dnsmasq_runs_no_address_is_served() -> None:
    fleet = fleets.recorded()
    read = fleet["node-0"]
    silenced(read)
    with_another(read, "libvirtd.service", "192.168.122.1", "virbr0")
    del read["dnsmasq"]["value"]["instances"][0]
    fleets.set_uplinks(read, "172.25.4.1", "192.168.122.1")
    assert node.vips(fleet, None)["node-0"] == ()


def test_the_policy_wins_says_so_and_edits_nothing() -> None:
    fleet = fleets.recorded()
    another = with_another(fleet["node-0"], "libvirtd.service", "192.168.122.1", "virbr0")
    given = ["192.168.122.1"]
    assert node.vips(fleet, given)["node-0"] == ("192.168.122.1",)
    assert node.serving(fleet["node-0"], "192.168.122.1") is another
    case = Case("node-0", fleet, given, [])
    (runs,) = dnsmasq_003.check(case)
    assert runs["sentence"].startswith("libvirtd.service runs (pid 900); dns_vips names 192.168.122.1, though")
    (answers,) = dnsmasq_001.check(case)
    assert (answers["status"], answers["operation"]) == (Status.FAIL, "")
    with pytest.raises(Refused, match=r"dns_vips names 192.168.122.1, whose dnsmasq libvirtd.service runs"):
        changes(fleet, given)


def test_what_a_container_asks_makes_no_address_of_the_cluster() -> None:
    fleet = fleets.recorded()
    # Podman's dnsname plugin starts its dnsmasq from whoever started the container.
    with_another(fleet["node-0"], "", "10.89.0.1", "cni-podman1")
    asking = fleets.add_pod(fleet["node-0"], "172.26.2.145", "10.89.0.20", 4711, "10.89.0.1")
    asking["cgroup"] = "/machine.slice/libpod-3f1c0d5b9c3b.scope"
    assert node.vips(fleet, None)["node-0"] == (VIP,)
    asking["cgroup"] = "/kubepods.slice/cri-containerd-3f1c0d5b9c3b.scope"
    assert node.vips(fleet, None)["node-0"] == (VIP, "10.89.0.1")


def test_a_dnsmasq_for_dhcp_alone_serves_nothing_where_another_program_does() -> None:
    fleet = fleets.recorded()
    configured(fleet["node-0"], "port=0\n")
    silenced(fleet["node-0"])
    listening(fleet["node-0"], "0.0.0.0", "unbound", 777)
    assert node.vips(fleet, None)["node-0"] == ()


def test_a_dnsmasq_whose_dns_was_switched_off_is_named_where_nobody_else_listens() -> None:
    fleet = fleets.recorded()
    configured(fleet["node-0"], "port=0\n")
    silenced(fleet["node-0"])
    ((said, status),) = judged(fleet)
    assert status == Status.FAIL and "port=0 (/etc/dnsmasq.d/k8s.conf:1)" in said


CGROUPS = [
    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7a5e.slice/docker-3f1c0d5b9c3b.scope",
    "/kubepods/besteffort/pod7a5e/3f1c0d5b9c3b",
    "/docker/0d5b9c3b/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod7a5e.slice/cri-containerd-3f1c.scope",
    "/system.slice/docker-0d5b9c3b.scope/kubelet.slice/kubelet-kubepods.slice/cri-containerd-3f1c.scope",
]


@pytest.mark.parametrize("cgroup", CGROUPS)
def test_a_pod_is_one_of_kubernetes_whatever_runs_its_containers(cgroup: str) -> None:
    fleet = fleets.recorded()
    for pod in fleet["node-0"]["pods"]["value"]:
        pod["cgroup"] = cgroup
    assert {asker.kubernetes for asker in node.askers(fleet["node-0"])} == {True}
    configured(fleet["node-0"], INCIDENT)
    ((_, status),) = judged(fleet)
    assert status == Status.FAIL and len(changes(fleet)) == 1


@pytest.mark.parametrize(
    "cgroup",
    ["/system.slice/docker-3f1c.scope", "/docker/3f1c", "/machine.slice/libpod-3f1c.scope", "/lxc.payload.c1/x"],
)
def test_a_container_of_nobodys_kubelet_is_no_pod(cgroup: str) -> None:
    fleet = fleets.recorded()
    for pod in fleet["node-0"]["pods"]["value"]:
        pod["cgroup"] = cgroup
    assert {asker.kubernetes for asker in node.askers(fleet["node-0"])} == {False}


def with_storage(fleet: Fleet, kind: str) -> None:
    """Multus: a second interface of a pod is in the node's storage LAN, where dnsmasq does not serve."""
    read = fleet["node-0"]
    read["interfaces"]["value"].append(link("eth1", "ether", "10.50.0.10"))
    routes(read).append(route("10.50.0.0/24", "eth1"))
    pod = fleets.pod(read, "172.26.2.145")
    pod["interfaces"].insert(1, link("net1", kind, "10.50.0.77", index=4))
    pod["addresses"].insert(0, "10.50.0.77")
    configured(read, "bind-dynamic\nexcept-interface=eth1\n")


@pytest.mark.parametrize("kind", ["macvlan", "veth"])
def test_a_pod_asks_from_its_interface_in_the_clusters_network(kind: str) -> None:
    fleet = fleets.recorded()
    with_storage(fleet, kind)
    found = [(asker.address, asker.arrival) for asker in node.askers(fleet["node-0"])]
    assert found == [("172.26.2.145", "cilium_host"), ("172.26.2.53", "cilium_host")]
    assert left_alone(fleet)


def test_a_pod_without_eth0_asks_from_its_end_of_a_veth_pair_with_the_node() -> None:
    fleet = fleets.recorded()
    with_storage(fleet, "macvlan")
    fleets.pod(fleet["node-0"], "172.26.2.145")["interfaces"][-1]["name"] = "k0"
    assert "172.26.2.145" in {asker.address for asker in node.askers(fleet["node-0"])}
    assert left_alone(fleet)


def test_a_pod_on_a_macvlan_asks_from_it() -> None:
    fleet = fleets.recorded()
    pod = fleets.pod(fleet["node-0"], "172.26.2.145")
    pod["addresses"] = ["172.25.4.77"]
    pod["interfaces"] = [link("eth0", "macvlan", "172.25.4.77", index=2)]
    assert ("172.25.4.77", "bond0") in {(asker.address, asker.arrival) for asker in node.askers(fleet["node-0"])}


def test_a_second_interface_has_no_way_back_to_be_judged() -> None:
    fleet = kube_fleet.fleet()
    read = fleet["node-0"]
    kept = [one for one in read["interfaces"]["value"] if one["name"] in ("lo", "bond0")]
    ends = [link("cali1234567", "veth", index=50, peer=3), link("eth1", "ether", "10.50.0.10", index=51)]
    read["interfaces"]["value"] = [*kept, *ends]
    routes(read)[:] = [route("10.244.0.7/32", "cali1234567"), route("10.50.0.0/24", "eth1")]
    pod = read["pods"]["value"][0]
    pod["interfaces"] = [
        link("eth0", "veth", "10.244.0.7", 32, index=3, peer=50),
        link("net1", "macvlan", "10.50.0.77", index=4),
    ]
    pod["addresses"] = ["10.244.0.7", "10.50.0.77"]
    read["pods"]["value"] = [pod]
    read["kernel"]["value"]["sysctls"] |= {"net.ipv4.conf.cali1234567.rp_filter": "1"}
    (finding,) = kernel_001.check(Case("node-0", fleet, [], []))
    assert finding["status"] == Status.PASS, finding


def flannel() -> Fleet:
    """VXLAN between the pods of two nodes, which are in one LAN."""
    fleet = fleets.recorded()
    for number, read in enumerate(fleet.values()):
        kept = [one for one in read["interfaces"]["value"] if one["name"] in ("lo", "bond0", "mgmt0")]
        bridge = link("cni0", "bridge", f"10.244.{number}.1", index=80)
        tunnel = link("flannel.1", "vxlan", f"10.244.{number}.0", 32, index=81)
        read["interfaces"]["value"] = [*kept, bridge, tunnel]
        other = 1 - number
        routes(read)[:] = [
            *(each for each in routes(read) if each["interface"] in ("bond0", "mgmt0") and "172.26" not in str(each)),
            route(f"10.244.{number}.0/24", "cni0"),
            route(f"10.244.{other}.0/24", "flannel.1", f"10.244.{other}.0"),
        ]
        for index, pod in enumerate(read["pods"]["value"], 2):
            pod["addresses"] = [f"10.244.{number}.{index}"]
            pod["interfaces"] = [link("eth0", "veth", pod["addresses"][0])]
            pod["nameservers"] = [f"172.25.4.{number + 1}"]
    return fleet


def arrivals(needs: Sequence[Need], who: str) -> set[tuple[str, bool]]:
    return {(need.query.arrival, need.required) for need in needs if need.who.startswith(who)}


def remote(needs: Sequence[Need]) -> set[tuple[str, bool]]:
    return {(each.query.arrival, each.required) for each in needs if each.who.startswith("pod") and "(" in each.who}


def test_another_nodes_pods_arrive_by_the_lan_that_both_nodes_are_in() -> None:
    fleet = flannel()
    assert remote(node.needs("node-0", fleet, VIP)) == {("bond0", False)}
    configured(fleet["node-0"], "bind-dynamic\ninterface=bond0\ninterface=cni0\n")
    assert left_alone(fleet)


def test_local_service_does_not_cut_off_what_is_masqueraded() -> None:
    """Debian's default answers the LAN and the pods of cni0. Nobody tells what another node's pods are seen as."""
    fleet = flannel()
    configured(fleet["node-0"], "bind-dynamic\n")
    assert left_alone(fleet)


def test_another_nodes_pods_arrive_as_their_node_sends_where_there_is_no_common_lan() -> None:
    fleet = flannel()
    here, there = routes(fleet["node-0"]), routes(fleet["node-1"])
    there[:] = [each for each in there if each["destination"] != "172.25.4.0/24"]
    there.append(route("172.25.4.0/24", "mgmt0", "198.18.53.254"))
    assert remote(node.needs("node-0", fleet, VIP)) == {("mgmt0", False)}
    there[-1] = route("172.25.4.0/24", "flannel.1", "10.244.0.0")
    here.append(route("10.244.1.0/32", "flannel.1"))
    assert remote(node.needs("node-0", fleet, VIP)) == {("flannel.1", False)}


def test_another_nodes_pods_keep_the_answer_that_they_have() -> None:
    fleet = flannel()
    configured(fleet["node-0"], "bind-dynamic\ninterface=bond0\n")
    (change,) = changes(fleet, policy="named")
    kept = {str(need) for need in change.plan.after.answered() if need.who.endswith("(node-1)")}
    assert "pod 10.244.1.2 (node-1) -> 172.25.4.1 UDP" in kept


def on_loopback(fleet: Fleet, address: str, prefix: int = 32, name: str = "lo") -> None:
    """The node serves this address alone, from its loopback or a dummy."""
    read = fleet["node-0"]
    for one in read["interfaces"]["value"]:
        one["addresses"] = [each for each in one["addresses"] if each["address"] != VIP]
    if name != "lo":
        read["interfaces"]["value"].append(link(name, "dummy"))
    there = next(one for one in read["interfaces"]["value"] if one["name"] == name)
    there["addresses"] += link(name, "", address, prefix)["addresses"]


@pytest.mark.parametrize(("name", "prefix"), [("lo", 32), ("lo", 8), ("dns0", 32)])
@pytest.mark.parametrize("alone", [False, True])
def test_who_asks_an_address_of_the_loopback_comes_by_the_default_route(name: str, prefix: int, alone: bool) -> None:
    fleet = fleets.recorded()
    on_loopback(fleet, "10.53.0.53", prefix, name)
    if alone:
        del fleet["node-1"]
    started = time.monotonic()
    needs = node.needs("node-0", fleet, "10.53.0.53")
    assert time.monotonic() - started < 1
    assert arrivals(needs, "LAN ") == {("bond0", False)}
    assert not any(need.who.startswith("LAN 127.") for need in needs)
    configured(fleet["node-0"], f"bind-dynamic\ninterface={name}\ninterface=cilium_host\n")
    assert not changes(fleet, ["10.53.0.53"])


def test_nobody_in_the_lan_is_one_that_has_the_same_address() -> None:
    fleet = fleets.recorded()
    on_loopback(fleet, "10.53.0.53")
    on_loopback({"node-0": fleet["node-1"]}, "10.53.0.53")
    needs = node.needs("node-0", fleet, "10.53.0.53")
    assert "10.53.0.53" not in {str(need.query.source) for need in needs if need.who.startswith("LAN")}
    assert not remote(needs), "its pods ask its own dnsmasq"


@pytest.mark.parametrize(
    ("vip", "prefix", "loopback"),
    [("10.0.0.1", 8, ""), ("fd25::1", 64, ""), ("10.0.0.1", 9, "10.255.0.1")],
    ids=["an IPv4 /8", "an IPv6 /64", "an IPv4 /9 that the loopback has too"],
)
def test_a_neighbour_is_found_or_not_after_few_addresses(vip: str, prefix: int, loopback: str) -> None:
    fleet = {"node-0": fleets.recorded()["node-0"]}
    interfaces = fleet["node-0"]["interfaces"]["value"]
    bond = next(one for one in interfaces if one["name"] == "bond0")
    bond["addresses"] = link("bond0", "", vip, prefix)["addresses"]
    if loopback:
        interfaces[0]["addresses"] += link("lo", "", loopback, 8)["addresses"]
    started = time.monotonic()
    needs = node.needs("node-0", fleet, vip)
    assert time.monotonic() - started < 1
    assert arrivals(needs, "LAN ") == (set() if loopback else {("bond0", True)})
