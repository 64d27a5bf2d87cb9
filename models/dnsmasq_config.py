"""The part of a dnsmasq configuration that decides who is answered.

Source: `read_opts` and `one_opt` in src/option.c of dnsmasq 2.90.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from facts.dnsmasq_keywords import once
from facts.dnsmasq_lines import split_value
from facts.dnsmasq_options import Option
from facts.dnsmasq_values import c_integer
from models.host import IP


class Binding(StrEnum):
    """How dnsmasq opens its sockets."""

    WILDCARD = "wildcard"
    INTERFACES = "bind-interfaces"
    DYNAMIC = "bind-dynamic"


@dataclass(frozen=True)
class Name:
    """An interface name or pattern, and the option that holds it. An empty one matches nothing (`interface=`)."""

    pattern: str
    option: Option

    def matches(self, name: str) -> bool:
        """`wildcard_match` in src/util.c: `*` ends the match and stands for at least one more character."""
        head, star, _ = self.pattern.partition("*")
        if star:
            return name.startswith(head) and len(name) > len(head)
        return bool(self.pattern) and self.pattern == name


@dataclass(frozen=True)
class Literal:
    """An address, and the option that holds it."""

    ip: IP
    option: Option


@dataclass(frozen=True)
class AuthName:
    """An interface of auth-server: the exact name, and the IP version it is meant for, 0 for both."""

    name: str
    version: int
    option: Option


@dataclass(frozen=True)
class Configuration:
    """What is effective, each with the option that it came from.

    + names, excepts: interface= and except-interface=
    + addresses: listen-address=
    + auth_names, auth_addresses: where auth-server= makes dnsmasq authoritative only
    + auth_zones: the auth-zone= options; `auth_server`: the auth-server= option that names a server
    + local_service: the option behind `net` or `host`, None if off; a further one of another kind is without effect
    + local_scope: "net", "host" or ""
    + bind_interfaces, bind_dynamic: the options that ask for it
    + port: UDP and TCP port; 0 is DNS off; `port_option` is None for the default
    """

    names: tuple[Name, ...] = ()
    excepts: tuple[Name, ...] = ()
    addresses: tuple[Literal, ...] = ()
    auth_names: tuple[AuthName, ...] = ()
    auth_addresses: tuple[Literal, ...] = ()
    auth_zones: tuple[Option, ...] = ()
    auth_server: Option | None = None
    local_service: Option | None = None
    local_scope: str = ""
    bind_interfaces: Option | None = None
    bind_dynamic: Option | None = None
    port: int = 53
    port_option: Option | None = None

    @property
    def binding(self) -> Binding:
        """How sockets are opened; with both options set dnsmasq does not start."""
        if self.bind_interfaces:
            return Binding.INTERFACES
        return Binding.DYNAMIC if self.bind_dynamic else Binding.WILDCARD

    @property
    def listing(self) -> tuple[Option, ...]:
        """The options that say where dnsmasq serves; with any of them it serves nowhere else."""
        return unique([*(name.option for name in self.names), *(entry.option for entry in self.addresses)])


def unique(options: Iterable[Option]) -> tuple[Option, ...]:
    """Each option once, in order."""
    kept: list[Option] = []
    for option in options:
        if option not in kept:
            kept.append(option)
    return tuple(kept)


def configuration(options: Sequence[Option]) -> Configuration:
    """The effective configuration of the options that `read_options` gave, or of any selection of them.

    To ask what a change would do, leave an option out and call again.
    """
    effective = _effective(options)
    names = tuple(Name(part, option) for option, part in _parts(effective, "interface"))
    excepts = tuple(Name(part, option) for option, part in _parts(effective, "except-interface"))
    addresses = tuple(Literal(ip_address(part), option) for option, part in _parts(effective, "listen-address"))
    auth_names, auth_addresses = _auth_interfaces(effective)
    auth_server = _last(effective, "auth-server")
    bind_interfaces = _last(effective, "bind-interfaces")

    local_service, scope = _local_service(effective)
    if names or excepts or addresses or auth_server:
        local_service, scope = None, ""
    if local_service and scope == "host":
        # dnsmasq adds an interface name that matches nothing, which leaves loopback, and binds to it.
        names = (Name("", local_service),)
        bind_interfaces = bind_interfaces or local_service

    port_option = _last(effective, "port")
    return Configuration(
        names=names,
        excepts=excepts,
        addresses=addresses,
        auth_names=auth_names,
        auth_addresses=auth_addresses,
        auth_zones=tuple(option for option in effective if option["name"] == "auth-zone"),
        auth_server=auth_server,
        local_service=local_service,
        local_scope=scope,
        bind_interfaces=bind_interfaces,
        bind_dynamic=_last(effective, "bind-dynamic"),
        port=(c_integer(port_option["value"]) or 0) if port_option else 53,
        port_option=port_option,
    )


def _effective(options: Sequence[Option]) -> list[Option]:
    """Without the command line's `port`, `local-service` ... that come after a file has set the same."""
    from_file: set[str] = set()
    kept: list[Option] = []
    for option in options:
        if option["file"]:
            from_file.add(option["name"])
        elif once(option["name"]) and option["name"] in from_file:
            continue
        kept.append(option)
    return kept


def _parts(options: Sequence[Option], name: str) -> list[tuple[Option, str]]:
    return [(option, part) for option in options if option["name"] == name for part in split_value(option["value"])]


def _last(options: Sequence[Option], name: str) -> Option | None:
    found = [option for option in options if option["name"] == name]
    # An empty server name counts as none.
    if name == "auth-server" and found and not split_value(found[-1]["value"])[0]:
        return None
    return found[-1] if found else None


def _local_service(options: Sequence[Option]) -> tuple[Option | None, str]:
    """`net` wins over `host`, wherever they stand."""
    scopes = {option["value"] or "net": option for option in options if option["name"] == "local-service"}
    for scope in ("net", "host"):
        if scope in scopes:
            return scopes[scope], scope
    return None, ""


def _auth_interfaces(options: Sequence[Option]) -> tuple[tuple[AuthName, ...], tuple[Literal, ...]]:
    names: list[AuthName] = []
    addresses: list[Literal] = []
    for option in (option for option in options if option["name"] == "auth-server"):
        for part in split_value(option["value"])[1:]:
            try:
                addresses.append(Literal(ip_address(part), option))
            except ValueError:
                name, _, family = part.partition("/")
                names.append(AuthName(name.rstrip(" "), int(family.strip(" ") or 0), option))
    return tuple(names), tuple(addresses)
