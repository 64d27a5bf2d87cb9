"""A node as the dnsmasq model needs it, put together from what was read: addresses, pods, and who asks it for DNS."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from facts.addresses import ip_address, ip_network
from facts.dnsmasq import UNIT, Instance
from facts.interfaces import Address as InterfaceAddress
from facts.interfaces import Interface
from facts.pods import Pod
from facts.routes import Route, outgoing
from facts.snapshot import Snapshot
from facts.sockets import Socket as Held
from models import corefile
from models.dnsmasq import Query, Socket, configuration, starts
from models.host import Address, Host, Listener
from models.needs import Need

_PROTOCOLS = ("udp", "tcp")
#: The interfaces on which kube-proxy and kube-router keep the services' addresses, for IPVS: they are nobody's.
DEVICES = ("kube-ipvs0", "kube-dummy-if")
#: That of NodeLocal DNSCache (node-cache's default): pods ask its address, or it takes the service's from the service.
CACHE = "nodelocaldns"
#: Interfaces whose addresses are services of the cluster: present on every node, served by none of its processes.
_SERVICE_INTERFACES = (*DEVICES, CACHE)
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


def own_servers(snapshot: Snapshot) -> Iterator[str]:
    """What the node's own resolvers ask: pods with dnsPolicy Default, too."""
    resolv_conf, resolved = snapshot["resolv_conf"]["value"], snapshot["resolved"]["value"]
    if resolv_conf:
        yield from resolv_conf["nameservers"]
    if resolved:
        yield from resolved["uplinks"]
        yield from resolved["servers"]
        for link in resolved["links"]:
            yield from link["servers"]


def _asked_servers(snapshot: Snapshot) -> Iterator[str]:
    yield from own_servers(snapshot)
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
    apart = {instance["pid"] for instance in snapshot["dnsmasq"]["value"]["instances"] if not instance["on_host"]}
    exact: list[bool] = []
    wildcard: list[bool] = []
    for socket in _listening(snapshot, address):
        another = socket["process"] not in ("", "dnsmasq") or _owned(socket, apart)
        (exact if socket["address"] == address else wildcard).append(another)
    if exact:
        return any(exact)
    return bool(wildcard) and all(wildcard) and not _should_run(snapshot)


def _listening(snapshot: Snapshot, address: str) -> list[Held]:
    """Who holds port 53 there: of the address, or of every address."""
    every = ("*", "0.0.0.0" if ip_address(address).version == 4 else "::")
    return [
        socket
        for socket in snapshot["sockets"]["value"]
        if socket["port"] == 53
        and (socket["address"] == address or (socket["address"] in every and not socket["interface"]))
    ]


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
    if service and configuration(service["options"]).port != 53 and _listening(snapshot, vip):
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
    return there and not _listening(snapshot, address)


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
    links = {(interface["index"], interface["peer"]) for interface in snapshot["interfaces"]["value"]}
    found: list[Asker] = []
    for pod in snapshot["pods"]["value"]:
        for address in _asks_from(pod, links):
            route = outgoing(_main(snapshot), address)
            if route and route["interface"] and ip_network(route["destination"]).prefixlen:
                found.append(Asker(address, pod["pid"], route["interface"], _is_kubernetes(pod)))
    return found


def _asks_from(pod: Pod, links: Collection[tuple[int, int | None]]) -> list[str]:
    """The addresses from which a pod asks: those of the interface by which its default route leaves, as a rule.

    A pod may have others too: in a storage network (Multus), for containers or a virtual machine of its own. eth0 is
    the cluster's (CNI_IFNAME, which containerd and CRI-O set); without one, it is the end of a veth pair with the node,
    or the first that has an address.

    + links: index and peer of the node's interfaces
    """
    found = [
        (one["name"] != "eth0", one["kind"] != "veth" or (one["peer"], one["index"]) not in links, addresses)
        for one in pod["interfaces"]
        if (addresses := [each["address"] for each in one["addresses"] if each["address"] in pod["addresses"]])
    ]
    return min(found, key=lambda one: one[:2])[2] if found else pod["addresses"]


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
    sources += _neighbours(name, fleet, node, vip)
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
) -> Iterable[tuple[str, str, str, bool]]:
    """Other nodes in the address's LAN, or any neighbour there; then pods of other nodes. As `Need` takes them.

    Whether another node's pods are masqueraded on their way, and whether anybody in the LAN asks an address that is on
    no interface of a LAN, nothing here tells: these only must not lose an answer.
    """
    snapshot = fleet[name]
    assert snapshot is not None
    names = list(fleet)
    # Those around it in the inventory: the likeliest to share its LAN, and then they are found at once.
    first = max(0, min(names.index(name) - _LOOKED_AT // 2, len(names) - _LOOKED_AT))
    around = names[first : first + _LOOKED_AT]
    others = {other: there for other in around if other != name and (there := fleet[other])}
    entry, required = _entry(snapshot, vip)
    version = ip_address(vip).version
    networks = [
        address.ip.network for address in node.addresses if address.interface == entry and address.ip.version == version
    ]
    lan = list(
        islice(
            (
                (f"LAN {address['address']} ({other})", address["address"])
                for other, there in others.items()
                for _, address in _addresses(there["interfaces"]["value"])
                if address["scope"] == "global"
                and any(ip_address(address["address"]) in net for net in networks)
                and not node.owner(ip_address(address["address"]))
            ),
            _NEIGHBOURS,
        )
    )
    if not lan and networks:
        widest = min(networks, key=lambda network: network.prefixlen)
        # Of one more than the node has itself, one is somebody else's.
        some = [str(ip) for ip in islice(widest.hosts(), len(node.addresses) + 1)]
        lan = [(f"LAN {ip}", ip) for ip in some if not node.is_local(ip_address(ip))][:1]
    for who, address in lan:
        yield who, address, entry, required
    remote = (
        (f"{asker.name} ({other})", asker.address, arrival)
        for other, there in others.items()
        for asker in askers(there)[:1]
        if ip_address(asker.address).version == version and (arrival := _arrival(snapshot, there, asker.address, vip))
    )
    for who, address, arrival in islice(remote, _NEIGHBOURS):
        yield who, address, arrival, False


def _entry(snapshot: Snapshot, vip: str) -> tuple[str, bool]:
    """The interface on which a LAN asks an address, and whether the address is on that interface itself.

    To one that is on a loopback or a dummy (BGP, the real servers of LVS) packets come by another: as those of the
    default route, most likely.
    """
    for interface, address in _addresses(snapshot["interfaces"]["value"]):
        if address["address"] == vip and interface["kind"] not in ("loopback", "dummy"):
            return interface["name"], True
    version = ip_address(vip).version
    defaults = [route for route in _main(snapshot) if route["destination"] == ("0.0.0.0/0" if version == 4 else "::/0")]
    route = outgoing(defaults, "0.0.0.0" if version == 4 else "::")
    return (route["interface"] if route else ""), False


def _arrival(here: Snapshot, there: Snapshot, pod: str, vip: str) -> str:
    """Where a question of a pod of another node arrives, "" if nothing tells, or it does not leave that node.

    It is how this node reaches the address from which that one sends there. The way back to the pod itself is another
    one with a tunnel between pods (flannel): what pods send to a node's own address does not go through it.
    """
    route = outgoing(_main(there), vip)
    sender = ""
    for interface, address in _addresses(there["interfaces"]["value"]):
        if address["address"] == vip:
            return ""
        same = ip_address(address["address"]).version == ip_address(vip).version
        if route and interface["name"] == route["interface"] and same and address["scope"] == "global":
            sender = sender or address["address"]
    back = outgoing(_main(here), sender or pod)
    return back["interface"] if back else ""


def _main(snapshot: Snapshot) -> list[Route]:
    routing = snapshot["routes"]["value"]
    return routing["main"] if routing else []


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
