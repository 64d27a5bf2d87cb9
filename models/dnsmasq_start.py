"""Whether dnsmasq starts, and on which sockets it listens then.

Source: `main` in src/dnsmasq.c, `make_sock`, `create_bound_listeners` and `create_wildcard_listeners` in src/network.c
of dnsmasq 2.90; bind(2) and ip(7) for what the kernel refuses.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address

from facts.dnsmasq_options import Option
from models.dnsmasq_config import Binding, Configuration
from models.dnsmasq_rules import label, records, written
from models.host import IP, Host, Listener

_EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))

# `private_net` in src/rfc1035.c
_PRIVATE = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.2.0/24",
            "192.168.0.0/16",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "255.255.255.255/32",
        ),
    )
)


@dataclass(frozen=True)
class Socket:
    """A socket of dnsmasq. `scope` is the interface of a link-local address, else ""."""

    protocol: str
    ip: IP
    port: int
    scope: str = ""

    def __str__(self) -> str:
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"{self.protocol} {host}{'%' if self.scope else ''}{self.scope}:{self.port}"


@dataclass(frozen=True)
class Start:
    """What becomes of a start.

    + sockets: all that dnsmasq listens on; empty if it does not start
    + code: exit code of dnsmasq: 0, 1 configuration, 2 network
    + because: dnsmasq's message, and what stands behind it; "" if it starts
    + culprits: the options to blame; none if another process is
    + warnings: in dnsmasq's words; it starts nevertheless
    """

    started: bool
    sockets: tuple[Socket, ...] = ()
    code: int = 0
    because: str = ""
    culprits: tuple[Option, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def culprit(self) -> Option | None:
        """The first of the options to blame."""
        return self.culprits[0] if self.culprits else None


class _Fails(Exception):
    def __init__(self, because: str, culprits: tuple[Option, ...], code: int = 2) -> None:
        super().__init__(because)
        self.start = Start(False, code=code, because=because, culprits=culprits)


def starts(config: Configuration, host: Host) -> Start:
    """What dnsmasq does when it is started with `config` on `host` as it is at that moment."""
    try:
        _check_options(config)
        if config.binding is Binding.WILDCARD:
            sockets = _wildcard_sockets(config, host)
        else:
            sockets = _bound_sockets(config, host)
        if config.binding is Binding.INTERFACES:
            _check_names(config, host)
    except _Fails as failure:
        return failure.start
    return Start(True, sockets, warnings=_warnings(config, host))


def listening_now(config: Configuration, host: Host) -> tuple[Socket, ...]:
    """The sockets of a running bind-dynamic dnsmasq: it follows the addresses, and logs what it cannot bind."""
    opened: list[Socket] = []
    for ip, scope, _ in _wanted(config, host):
        _open(config, host, opened, ip, scope)
    return tuple(opened)


def _check_options(config: Configuration) -> None:
    if config.auth_zones and not config.auth_server:
        message = f"--auth-server required when an auth zone is defined: {written(config.auth_zones[0])}"
        raise _Fails(message, config.auth_zones, code=1)
    if config.bind_interfaces and config.bind_dynamic:
        both = (config.bind_interfaces, config.bind_dynamic)
        message = "cannot set --bind-interfaces and --bind-dynamic: " + " and ".join(map(written, both))
        if config.bind_interfaces["name"] == "local-service":
            message += "; local-service=host binds interfaces"
        raise _Fails(message, both, code=1)


def _wildcard_sockets(config: Configuration, host: Host) -> tuple[Socket, ...]:
    opened: list[Socket] = []
    for ip in _EVERYWHERE:
        problem = _open(config, host, opened, ip, "")
        if problem:
            raise _Fails(
                f"failed to create listening socket for port {config.port}: {problem}; without bind-interfaces or"
                " bind-dynamic dnsmasq binds every address",
                (config.port_option,) if config.port_option else (),
            )
    return tuple(opened)


def _bound_sockets(config: Configuration, host: Host) -> tuple[Socket, ...]:
    opened: list[Socket] = []
    for ip, scope, culprits in _wanted(config, host):
        problem = _open(config, host, opened, ip, scope)
        # With bind-dynamic an address that is not there may still come.
        if problem and not (config.binding is Binding.DYNAMIC and problem == _NOT_AVAILABLE):
            raise _Fails(
                f"failed to create listening socket for {ip}: {problem}"
                + "".join(f": {written(option)}" for option in culprits[:1]),
                culprits,
            )
    return tuple(opened)


def _wanted(config: Configuration, host: Host) -> list[tuple[IP, str, tuple[Option, ...]]]:
    """What is to be bound, in dnsmasq's order: address, scope, and the options that ask for it by name."""
    wanted: list[tuple[IP, str, tuple[Option, ...]]] = []
    for record in reversed(records(config, host)):
        ip = record.address.ip.ip
        scope = record.address.interface if ip.version == 6 and ip.is_link_local else ""
        asking = [entry.option for entry in config.addresses if entry.ip == ip]
        asking += [name.option for name in config.names if name.matches(label(record.address))]
        if all((ip, scope) != (other, of) for other, of, _ in wanted):
            wanted.append((ip, scope, tuple(asking)))
    on_host = {address.ip.ip for address in host.addresses}
    wanted += [(entry.ip, "", (entry.option,)) for entry in reversed(config.addresses) if entry.ip not in on_host]
    return wanted


_NOT_AVAILABLE = "Cannot assign requested address"


def _open(config: Configuration, host: Host, opened: list[Socket], ip: IP, scope: str) -> str:
    """Adds the UDP and the TCP socket of one address; returns what hinders it, "" if nothing does."""
    if config.port == 0:
        return ""
    if ip.version == 6 and ip.is_link_local and not scope:
        return "Invalid argument"
    if not host.can_bind(ip):
        return _NOT_AVAILABLE
    for other in host.listeners:
        if other.port == config.port and other.hinders(ip, scope):
            return f"Address already in use by {_holder(other)}"
    for own in opened:
        # Its own UDP sockets may overlap (SO_REUSEADDR), listening TCP sockets may not.
        taken = Listener("tcp", own.ip, own.port, own.scope or None)
        if own.protocol == "tcp" and taken.hinders(ip, scope):
            return f"Address already in use by dnsmasq's own socket on {own.ip}"
    opened += [Socket(protocol, ip, config.port, scope) for protocol in ("udp", "tcp")]
    return ""


def _holder(listener: Listener) -> str:
    scope = f"%{listener.interface}" if listener.interface else ""
    ip = "*" if listener.dual_stack else f"[{listener.ip}]" if listener.ip.version == 6 else str(listener.ip)
    return f"{listener.process or 'another process'} on {ip}{scope}:{listener.port} ({listener.protocol})"


def _check_names(config: Configuration, host: Host) -> None:
    for name in reversed(config.names):
        if name.pattern and not _used(name.pattern, config, host):
            raise _Fails(f"unknown interface {name.pattern}: {written(name.option)}", (name.option,))


def _used(pattern: str, config: Configuration, host: Host) -> bool:
    """True if an address stands under such a name: an interface without any address counts as unknown."""
    names = [name for name in config.names if name.pattern == pattern]
    seen = {label(address) for address in host.addresses}
    return any(name.matches(label_) for name in names for label_ in seen)


def _warnings(config: Configuration, host: Host) -> tuple[str, ...]:
    found: list[str] = []
    served = records(config, host)
    if config.binding is Binding.INTERFACES:
        for record in served:
            ip = record.address.ip.ip
            if ip.version == 4 and not record.auth and not any(ip in network for network in _PRIVATE):
                found.append(
                    f"LOUD WARNING: listening on {ip} may accept requests via interfaces other than"
                    f" {record.address.interface}"
                )
        return tuple(found)
    if config.binding is Binding.WILDCARD:
        found += [
            f"warning: using interface {record.address.interface} instead"
            for record in served
            if label(record.address) != record.address.interface
        ]
    found += [
        f"warning: interface {name.pattern} does not currently exist"
        for name in config.names
        if name.pattern and not _used(name.pattern, config, host)
    ]
    return tuple(found)
