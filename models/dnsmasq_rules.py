"""Which interface names and addresses dnsmasq takes, and which option is to blame if not.

Source: `iface_check`, `iface_allowed`, `loopback_exception` and `label_exception` in src/network.c of dnsmasq 2.90.
"""

from dataclasses import dataclass

from facts.dnsmasq_options import Option
from models.dnsmasq_config import Configuration, unique
from models.host import IP, Address, Host


@dataclass(frozen=True)
class Rejection:
    """Why a name and address are not taken: the rest of a sentence that begins with them, and the options behind it."""

    because: str
    culprits: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Record:
    """An address of the host that dnsmasq serves; `auth` if auth-server makes it authoritative only there."""

    address: Address
    auth: bool


def written(option: Option) -> str:
    """An option with its place: `interface=bond0 (/etc/dnsmasq.d/k8s.conf:3)`."""
    value = "" if option["value"] is None else f"={option['value']}"
    place = f"{option['file']}:{option['line']}" if option["file"] else "the command line"
    return f"{option['name']}{value} ({place})"


def is_auth(config: Configuration, ip: IP, name: str) -> bool:
    """True if auth-server names this interface, exactly, or this address: it is taken then, whatever else is set."""
    by_name = any(auth.name == name and auth.version in (0, ip.version) for auth in config.auth_names)
    return by_name or any(literal.ip == ip for literal in config.auth_addresses)


def rejection(config: Configuration, host: Host, ip: IP, name: str) -> Rejection | None:
    """None if `ip` is taken on the interface, or under the label, `name` (`iface_check`)."""
    if is_auth(config, ip, name) or any(literal.ip == ip for literal in config.addresses):
        return None
    listed = not (config.names or config.addresses) or any(allowed.matches(name) for allowed in config.names)
    if config.names and name in host.loopbacks:
        listed = True
    excluding = unique(pattern.option for pattern in config.excepts if pattern.matches(name))
    if listed and not excluding:
        return None
    reasons = [f"is excluded by {' and '.join(map(written, excluding))}"] if excluding else []
    culprits = excluding
    if not listed:
        unlisting = config.listing
        culprits = (*excluding, *unlisting)
        reasons.append(f"is not listed: {_only(config)} by {' and '.join(map(written, unlisting))}")
    return Rejection(" and ".join(reasons), culprits)


def records(config: Configuration, host: Host) -> tuple[Record, ...]:
    """The addresses that dnsmasq serves, IPv6 first as it enumerates them (`iface_allowed`)."""
    in_order = sorted(host.addresses, key=lambda address: -address.ip.version)
    return tuple(
        Record(address, is_auth(config, address.ip.ip, label(address)))
        for address in in_order
        if address.interface in host.interfaces and rejection(config, host, address.ip.ip, label(address)) is None
    )


def label(address: Address) -> str:
    """The name under which an address is looked up: an IPv4 address has a label of its own."""
    return address.label if address.label and address.ip.version == 4 else address.interface


def _only(config: Configuration) -> str:
    if config.local_scope == "host":
        return "only loopback is allowed"
    allowed = [name.pattern for name in config.names if name.pattern] + [str(entry.ip) for entry in config.addresses]
    return f"only {', '.join(dict.fromkeys(allowed)) or 'loopback'} is allowed"
