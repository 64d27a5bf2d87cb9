"""A node's network as far as it decides what a server on it can bind and what reaches it."""

import re
from dataclasses import dataclass, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

IP = IPv4Address | IPv6Address

# Cilium, Calico, flannel, the bridge plugin, Weave, Antrea, OVN, cloud CNIs, kube-proxy, docker and libvirt.
_MADE_LATER = re.compile(
    r"cilium_|lxc|cali|tunl|vxlan|flannel|cni|veth|weave|antrea|ovn|genev|azv|gke|eni|kube-|nodelocaldns|docker|br-|virbr"
)


@dataclass(frozen=True)
class Address:
    """One address of an interface.

    + interface: name ("bond0")
    + ip: address and prefix length
    + label: of an IPv4 address ("bond0:1"); "" is the interface's name, as for every IPv6 address
    """

    interface: str
    ip: IPv4Interface | IPv6Interface
    label: str = ""

    @classmethod
    def of(cls, interface: str, ip: str, label: str = "") -> "Address":
        """From text: `Address.of("bond0", "172.25.4.1/24")`."""
        return cls(interface, ip_interface(ip), label)


@dataclass(frozen=True)
class Listener:
    """A socket that another process holds.

    + protocol: "udp" or "tcp"
    + ip: bound address; 0.0.0.0 or :: is every address of that family
    + interface: the one it is bound to (`%lo` in ss), else None
    + process: name, "" if not known
    + dual_stack: :: that takes IPv4 as well (`*:53` in ss)
    """

    protocol: str
    ip: IP
    port: int
    interface: str | None = None
    process: str = ""
    dual_stack: bool = False

    @classmethod
    def of(cls, protocol: str, ip: str, port: int, interface: str | None = None, process: str = "") -> "Listener":
        """From text as ss shows it: `Listener.of("tcp", "127.0.0.53", 53, "lo", "systemd-resolve")`; `*` is dual."""
        dual = ip == "*"
        return cls(protocol, ip_address("::" if dual else ip), port, interface, process, dual)

    def hinders(self, ip: IP, scope: str = "") -> bool:
        """True if a TCP socket on `ip` could not listen on the same port (`inet_csk_bind_conflict`).

        + scope: the interface of a link-local address, which binds to it as well
        """
        if scope and self.interface and scope != self.interface:
            return False
        if self.dual_stack:
            return True
        return self.ip.version == ip.version and (self.ip == ip or self.ip.is_unspecified or ip.is_unspecified)


@dataclass(frozen=True)
class Host:
    """A node at one moment.

    + interfaces: every interface name, also of those without an address
    + addresses: in the kernel's order; the first of an interface and prefix is its primary address
    + listeners: what other processes hold, without the server in question
    + loopbacks: interfaces with IFF_LOOPBACK
    + nonlocal_bind, nonlocal_bind6: net.ipv4.ip_nonlocal_bind, net.ipv6.ip_nonlocal_bind
    """

    interfaces: frozenset[str]
    addresses: tuple[Address, ...]
    listeners: tuple[Listener, ...] = ()
    loopbacks: frozenset[str] = frozenset({"lo"})
    nonlocal_bind: bool = False
    nonlocal_bind6: bool = False

    def at_boot(self) -> "Host":
        """The node before a container network or a hypervisor has made its interfaces: what a start at boot meets."""
        return replace(
            self,
            interfaces=frozenset(name for name in self.interfaces if not _MADE_LATER.match(name)),
            addresses=tuple(address for address in self.addresses if not _MADE_LATER.match(address.interface)),
        )

    def owner(self, ip: IP) -> Address | None:
        """The address record of `ip`; None if no interface has it."""
        return next((address for address in self.addresses if address.ip.ip == ip), None)

    def is_local(self, ip: IP) -> bool:
        """True if the kernel delivers `ip` here: an own address, or one in a loopback's IPv4 prefix.

        `fib_add_ifaddr` makes the whole prefix of an IPv4 address on a loopback local: that is why 127.0.0.53 is.
        """
        if self.owner(ip) is not None:
            return True
        return any(
            isinstance(ip, IPv4Address) and ip in address.ip.network
            for address in self.addresses
            if address.interface in self.loopbacks and isinstance(address.ip.network, IPv4Network)
        )

    def can_bind(self, ip: IP) -> bool:
        """True if bind(2) takes `ip`; otherwise EADDRNOTAVAIL."""
        anywhere = self.nonlocal_bind if ip.version == 4 else self.nonlocal_bind6
        return anywhere or ip.is_unspecified or self.is_local(ip)

    def arrival(self, destination: IP) -> str:
        """The interface on which a packet of the node to itself is reported: the owner's, not lo."""
        owner = self.owner(destination)
        return owner.interface if owner else min(self.loopbacks, default="lo")

    def source_towards(self, ip: IP, interface: str) -> IP | None:
        """The address the kernel would likely write as source of a packet to `ip` that leaves through `interface`.

        A guess from the addresses alone; `ip route get` on the node knows routes and rules as well.
        """
        if self.is_local(ip):
            return self._primary(ip)
        same = [address for address in self.addresses if address.ip.version == ip.version]
        here = [address for address in same if address.interface == interface]
        near = [address for address in here if _contains(address.ip.network, ip)]
        far = [address for address in same if address.interface not in self.loopbacks]
        return next((address.ip.ip for address in (*near, *here, *far)), None)

    def _primary(self, ip: IP) -> IP:
        """A local route names the first address of the prefix as source, also for the others in it."""
        owner = self.owner(ip)
        if ip.version == 6 or owner is None:
            shared = [address for address in self.addresses if ip.version == 4 and _contains(address.ip.network, ip)]
        else:
            shared = [
                address
                for address in self.addresses
                if address.interface == owner.interface and address.ip.network == owner.ip.network
            ]
        return next((address.ip.ip for address in shared), ip)


def _contains(network: IPv4Network | IPv6Network, ip: IP) -> bool:
    return ip.version == network.version and ip in network
