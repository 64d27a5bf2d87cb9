"""A node as the dnsmasq model needs it, put together from what was read: addresses, pods, and who asks it for DNS."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from facts.addresses import ip_address, ip_network
from facts.dnsmasq import UNIT, Instance
from facts.interfaces import Address as InterfaceAddress
from facts.interfaces import Interface
from facts.pods import Pod
from facts.routes import outgoing
from facts.snapshot import Snapshot
from facts.sockets import Socket as Held
from models import corefile
from models.dnsmasq import Query, Socket, configuration, starts
from models.host import Address, Host, Listener
from models.needs import Need

_PROTOCOLS = ("udp", "tcp")
#: Interfaces whose addresses are services of the cluster: present on every node, served by none of its processes.
_SERVICE_INTERFACES = ("kube-ipvs0", "nodelocaldns")
#: Containers that no kubelet runs: they are not promised an answer, they only must not lose one. Whether a kubelet does
#: is asked first: docker runs a pod for it in `/kubepods.slice/.../docker-ID.scope`, and kind all pods in `/docker/ID`.
_KUBERNETES = "kubepods"
_NOT_KUBERNETES = re.compile(r"/(docker|libpod|machine\.slice|lxc)[-./]")
#: Units that run a dnsmasq for networks of their own, and write what it reads. NetworkManager's is for the node alone.
_FOREIGN = re.compile(
    r"(libvirtd|virtnetworkd|libvirt-guests|lxc-net|lxd|incus.*|snap\.(lxd|multipass)\..*|NetworkManager)\.service"
)
#: Other nodes, and pods on other nodes, that one node's dnsmasq is judged by, at most.
_NEIGHBOURS = 5
#: Nodes of the fleet among which they are sought: a thousand nodes must not be compared with a thousand.
_LOOKED_AT = 50


@dataclass(frozen=True)
class Asker:
    """A pod of the node: `pid` is a process in its network namespace, `arrival` where its packets enter the host."""

    address: str
    pid: int
    arrival: str
    kubernetes: bool

    @property
    def name(self) -> str:
        """For people."""
        return f"{'pod' if self.kubernetes else 'container'} {self.address}"


def host(snapshot: Snapshot, without: int = 0) -> Host:
    """The node's network and what holds its ports.

    + without: a process whose own sockets are left out, because it is the one in question
    """
    interfaces = snapshot["interfaces"]["value"]
    return Host(
        interfaces=frozenset(interface["name"] for interface in interfaces),
        addresses=tuple(
            Address.of(interface["name"], f"{address['address']}/{address['prefix']}", address["label"])
            for interface, address in _addresses(interfaces)
        ),
        listeners=tuple(
            Listener.of(
                socket["protocol"],
                socket["address"],
                socket["port"],
                socket["interface"] or None,
                socket["process"],
            )
            for socket in snapshot["sockets"]["value"]
            if not without or all(owner["pid"] != without for owner in socket["owners"] or [])
        ),
        nonlocal_bind=snapshot["dnsmasq"]["value"]["nonlocal_bind"],
    )


def vips(fleet: Mapping[str, Snapshot | None], given: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Per node, its own addresses on which dnsmasq serves others. A node that could not be read has none.

    + given: the addresses, where the policy names them. Otherwise: what resolv.conf, systemd-resolved or a Kubernetes
      pod of any node names as its server, is an address of this node, and is not held by another program than dnsmasq,
      nor by a dnsmasq that another program runs (`foreign`)
    """
    if given is not None:
        return {name: _served(snapshot, set(given)) if snapshot else () for name, snapshot in fleet.items()}
    asked: set[str] = set()
    for snapshot in fleet.values():
        asked |= set(_asked_servers(snapshot)) if snapshot else set()
    return {
        name: tuple(address for address in _served(snapshot, asked) if _is_own(snapshot, address)) if snapshot else ()
        for name, snapshot in fleet.items()
    }


def _asked_servers(snapshot: Snapshot) -> Iterable[str]:
    resolv_conf, resolved = snapshot["resolv_conf"]["value"], snapshot["resolved"]["value"]
    if resolv_conf:
        yield from resolv_conf["nameservers"]
    if resolved:
        yield from resolved["uplinks"]
        yield from resolved["servers"]
        for link in resolved["links"]:
            yield from link["servers"]
    for pod in snapshot["pods"]["value"]:
        if _is_kubernetes(pod):
            yield from pod["nameservers"]


def _served(snapshot: Snapshot, asked: set[str]) -> tuple[str, ...]:
    if not any(instance["on_host"] for instance in snapshot["dnsmasq"]["value"]["instances"]):
        return ()
    return tuple(
        address["address"]
        for interface, address in _addresses(snapshot["interfaces"]["value"])
        if address["address"] in asked
        and address["scope"] != "host"
        and interface["name"] not in _SERVICE_INTERFACES
        and not _held_by_another(snapshot, address["address"])
    )


def _held_by_another(snapshot: Snapshot, address: str) -> bool:
    """Whether another program answers there: with a socket of the address, or with one of every address."""
    every = ("*", "0.0.0.0" if ip_address(address).version == 4 else "::")
    apart = {instance["pid"] for instance in snapshot["dnsmasq"]["value"]["instances"] if not instance["on_host"]}
    exact: list[bool] = []
    wildcard: list[bool] = []
    for socket in snapshot["sockets"]["value"]:
        if socket["port"] == 53:
            another = socket["process"] not in ("", "dnsmasq") or _owned(socket, apart)
            if socket["address"] == address:
                exact.append(another)
            elif socket["address"] in every and not socket["interface"]:
                wildcard.append(another)
    if exact:
        return any(exact)
    return bool(wildcard) and all(wildcard) and not _should_run(snapshot)


def _owned(socket: Held, pids: Collection[int]) -> bool:
    return any(owner["pid"] in pids for owner in socket["owners"] or [])


def _should_run(snapshot: Snapshot) -> bool:
    """Whether dnsmasq.service is stopped, and somebody wants it to run: then another program has taken its port.

    One that is neither enabled nor failed is only installed, as libvirt's and NetworkManager's packages leave it.
    """
    instances = snapshot["dnsmasq"]["value"]["instances"]
    if not any(each["on_host"] and each["unit"] == UNIT and not each["pid"] for each in instances):
        return False
    unit = next((each for each in snapshot["units"]["value"] if each["unit"] == UNIT), None)
    return unit is None or unit["active"] != "inactive" or unit["file_state"].startswith("enabled")


def serving(snapshot: Snapshot, vip: str) -> Instance | None:
    """The dnsmasq that owns this address: by its sockets, and dnsmasq.service where no dnsmasq holds one.

    A container's is never it; another program's (`foreign`) only at an address that it holds, which `vips` leaves out
    unless the policy names it. None where the node has no such dnsmasq.
    """
    instances = [instance for instance in snapshot["dnsmasq"]["value"]["instances"] if instance["on_host"]]
    for addresses in ((vip,), ("0.0.0.0", "::", "*")):
        for socket in snapshot["sockets"]["value"]:
            if socket["port"] == 53 and socket["address"] in addresses:
                for instance in instances:
                    if _owned(socket, {instance["pid"]}):
                        return instance
    service = next((instance for instance in instances if instance["unit"] == UNIT), None)
    if service and configuration(service["options"]).port != 53 and _is_listened_on(snapshot, vip):
        # It serves DHCP alone (port=0), or DNS elsewhere.
        return None
    return service


def foreign(instance: Instance) -> bool:
    """Whether another program runs this dnsmasq: libvirt, LXC, LXD, Incus, Multipass or NetworkManager."""
    return bool(_FOREIGN.fullmatch(instance["unit"]))


def _is_own(snapshot: Snapshot, address: str) -> bool:
    """Whether the node's own dnsmasq serves this address, or is the only one that could."""
    if instance := serving(snapshot, address):
        return not foreign(instance)
    instances = snapshot["dnsmasq"]["value"]["instances"]
    there = any(instance["on_host"] and not foreign(instance) for instance in instances)
    return there and not _is_listened_on(snapshot, address)


def _is_listened_on(snapshot: Snapshot, address: str) -> bool:
    """Whether anybody holds port 53 there: of the address, or of every address."""
    every = ("*", "0.0.0.0" if ip_address(address).version == 4 else "::")
    return any(
        socket["port"] == 53
        and (socket["address"] == address or (socket["address"] in every and not socket["interface"]))
        for socket in snapshot["sockets"]["value"]
    )


def not_listening(snapshot: Snapshot, instance: Instance, planned: Collection[Socket]) -> list[str]:
    """The sockets that a running dnsmasq should have by its configuration and has not: "tcp 172.26.2.58:53".

    + planned: those that it was to have before it was started: bind-interfaces has none for an address that has come
      since

    Link-local addresses come and go with the pods' links, and nobody is told to ask there. A tentative address has no
    socket yet (`iface->dad` in src/network.c of dnsmasq 2.90).
    """
    tentative = {
        address["address"] for _, address in _addresses(snapshot["interfaces"]["value"]) if address["tentative"]
    }
    held = {
        (socket["protocol"], socket["address"], socket["port"])
        for socket in snapshot["sockets"]["value"]
        if _owned(socket, {instance["pid"]})
    }
    return [
        str(socket)
        for socket in starts(configuration(instance["options"]), host(snapshot, instance["pid"])).sockets
        if socket in planned
        and not socket.scope
        and str(socket.ip) not in tentative
        and (socket.protocol, str(socket.ip), socket.port) not in held
    ]


def askers(snapshot: Snapshot) -> list[Asker]:
    """The node's pods that can be asked from: those with an address to which the node has a route of its own."""
    routing = snapshot["routes"]["value"]
    found: list[Asker] = []
    for pod in snapshot["pods"]["value"]:
        for address in pod["addresses"]:
            route = outgoing(routing["main"] if routing else [], address)
            if route and route["interface"] and ip_network(route["destination"]).prefixlen:
                found.append(Asker(address, pod["pid"], route["interface"], _is_kubernetes(pod)))
    return found


def _is_kubernetes(pod: Pod) -> bool:
    return _KUBERNETES in pod["cgroup"] or not _NOT_KUBERNETES.search(pod["cgroup"])


def kubernetes_pods(snapshot: Snapshot) -> list[Pod]:
    """The node's pods that a kubelet runs."""
    pids = {asker.pid for asker in askers(snapshot) if asker.kubernetes}
    return [pod for pod in snapshot["pods"]["value"] if pod["pid"] in pids]


def asking(snapshot: Snapshot, address: str) -> set[str]:
    """The addresses of the node's pods that ask a server by themselves: their resolv.conf or Corefile names it."""
    found: set[str] = set()
    for pod in snapshot["pods"]["value"]:
        if address in pod["nameservers"] or address in {one.address for one in corefile.of_pod(pod, snapshot)}:
            found |= set(pod["addresses"])
    return found


def needs(name: str, fleet: Mapping[str, Snapshot | None], vip: str) -> list[Need]:
    """Who asks this node's address, over UDP and TCP: its pods, its LAN, other nodes' pods, and the node itself."""
    snapshot = fleet[name]
    assert snapshot is not None
    node = host(snapshot)
    version = ip_address(vip).version
    sources = [
        (asker.name, asker.address, asker.arrival, asker.kubernetes)
        for asker in askers(snapshot)
        if ip_address(asker.address).version == version
    ]
    sources += [(who, address, arrival, True) for who, address, arrival in _neighbours(name, fleet, node, vip)]
    wanted = [
        Need(who, Query.of(address, vip, protocol, arrival), required)
        for who, address, arrival, required in sources
        for protocol in _PROTOCOLS
    ]
    wanted += [Need("the host itself", Query.from_host(node, vip, protocol)) for protocol in _PROTOCOLS]
    for address in _asked_on_loopback(snapshot, node):
        wanted += [Need("the host itself", Query.from_host(node, address, protocol), False) for protocol in _PROTOCOLS]
    return wanted


def _neighbours(
    name: str, fleet: Mapping[str, Snapshot | None], node: Host, vip: str
) -> Iterable[tuple[str, str, str]]:
    """Other nodes in the address's subnet, or any neighbour there; then pods of other nodes, by the route to them."""
    owner = node.owner(ip_address(vip))
    names = list(fleet)
    # Those around it in the inventory: the likeliest to share its LAN, and then they are found at once.
    first = max(0, min(names.index(name) - _LOOKED_AT // 2, len(names) - _LOOKED_AT))
    around = names[first : first + _LOOKED_AT]
    others = {other: snapshot for other in around if other != name and (snapshot := fleet[other])}
    networks = [
        address.ip.network
        for address in node.addresses
        if owner and address.interface == owner.interface and address.ip.version == owner.ip.version
    ]
    lan = list(
        islice(
            (
                (f"LAN {address['address']} ({other})", address["address"])
                for other, snapshot in others.items()
                for _, address in _addresses(snapshot["interfaces"]["value"])
                if address["scope"] == "global" and any(ip_address(address["address"]) in net for net in networks)
            ),
            _NEIGHBOURS,
        )
    )
    if not lan:
        widest = min(networks, key=lambda network: network.prefixlen, default=None)
        spare = (ip for ip in widest.hosts() if not node.is_local(ip)) if widest else iter(())
        lan = [(f"LAN {ip}", str(ip)) for ip in islice(spare, 1)]
    for who, address in lan:
        yield who, address, owner.interface if owner else ""
    snapshot = fleet[name]
    routing = snapshot["routes"]["value"] if snapshot else None
    remote = (
        (f"{asker.name} ({other})", asker.address)
        for other, snapshot in others.items()
        for asker in askers(snapshot)[:1]
        if ip_address(asker.address).version == ip_address(vip).version
    )
    for who, address in islice(remote, _NEIGHBOURS):
        route = outgoing(routing["main"] if routing else [], address)
        if route and route["interface"]:
            yield who, address, route["interface"]


def _asked_on_loopback(snapshot: Snapshot, node: Host) -> list[str]:
    """Loopback addresses that the node's own resolver asks, systemd-resolved's stub not among them."""
    stubs = {str(listener.ip) for listener in node.listeners if listener.process.startswith("systemd-resolve")}
    resolv_conf, resolved = snapshot["resolv_conf"]["value"], snapshot["resolved"]["value"]
    servers = [
        *(resolv_conf["nameservers"] if resolv_conf else []),
        *(resolved["uplinks"] if resolved else []),
    ]
    return [server for server in dict.fromkeys(servers) if _is_loopback(server) and server not in stubs]


def _is_loopback(server: str) -> bool:
    """False for what is no address: libc passes over such a line of resolv.conf."""
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return False


def _addresses(interfaces: Sequence[Interface]) -> Iterable[tuple[Interface, InterfaceAddress]]:
    return ((interface, address) for interface in interfaces for address in interface["addresses"])
