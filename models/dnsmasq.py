"""Who gets an answer from dnsmasq, and which option is to blame if not.

    config = configuration(options)        # facts.dnsmasq_options.read_options
    verdict = answer(config, host, Query.of("172.26.2.145", "172.25.4.1", "udp", arrival="cilium_host"))

Source: `receive_query` and `tcp_request` in src/forward.c, `check_dns_listeners` in src/dnsmasq.c of dnsmasq 2.90. The
rules are the same from 2.75 to 2.92.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from facts.addresses import ip_address
from facts.dnsmasq_options import Option
from models.dnsmasq_config import Binding, Configuration, configuration
from models.dnsmasq_rules import Record, Rejection, is_auth, label, records, rejection, written
from models.dnsmasq_start import Socket, Start, listening_now, starts
from models.host import IP, Address, Host, Listener

__all__ = [
    "IP",
    "Address",
    "Binding",
    "Configuration",
    "Host",
    "Listener",
    "Outcome",
    "Query",
    "Socket",
    "Start",
    "Verdict",
    "answer",
    "answers",
    "configuration",
    "starts",
]


class Outcome(StrEnum):
    """What the asker sees."""

    ANSWERED = "answered"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    """TCP: connected, then closed without an answer."""
    REFUSED = "conn-refused"
    NOT_STARTED = "not-started"


@dataclass(frozen=True)
class Query:
    """One question on its way to dnsmasq.

    + source: as dnsmasq sees it, after any masquerading
    + arrival: the interface on which it enters the host's stack (cilium_host, lxc*, bond0); see `Query.from_host`
    + protocol: "udp" or "tcp"
    + reply_from: what `ip route get SOURCE` names as source; without it, guessed from the addresses. It matters only
      for bind-interfaces with listen-address=0.0.0.0, where the kernel chooses the source of UDP replies.
    """

    source: IP
    arrival: str
    destination: IP
    protocol: str
    port: int = 53
    reply_from: IP | None = None

    @classmethod
    def of(cls, source: str, destination: str, protocol: str, arrival: str) -> "Query":
        """From text."""
        return cls(ip_address(source), arrival, ip_address(destination), protocol)

    @classmethod
    def from_host(cls, host: Host, destination: str, protocol: str) -> "Query":
        """From the host to an address of its own: it is reported as arriving on the owner of the address, not on lo."""
        ip = ip_address(destination)
        source = ip if host.owner(ip) else ip_address("127.0.0.1" if ip.version == 4 else "::1")
        return cls(source, host.arrival(ip), ip, protocol)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a query.

    + because: one sentence that names the rule
    + culprits: the options to blame, each on its own sufficient or all together necessary, as the sentence says
    + authoritative_only: answered, but by auth-server: names outside its zones get REFUSED as reply code
    """

    outcome: Outcome
    because: str
    culprits: tuple[Option, ...] = ()
    authoritative_only: bool = False

    @property
    def culprit(self) -> Option | None:
        """The first of the options to blame."""
        return self.culprits[0] if self.culprits else None


def answer(config: Configuration, host: Host, query: Query, started: Start | None = None) -> Verdict:
    """What becomes of `query` on `host` as it is now.

    + started: the start of the running process, `starts(config, host as it was then)`. It matters where addresses have
      come since: bind-interfaces has no sockets for them. Without it dnsmasq is taken to have started just now.
    """
    start = started or starts(config, host)
    sockets = listening_now(config, host) if started and config.binding is Binding.DYNAMIC else start.sockets
    return _answer(config, host, query, start, sockets, records(config, host))


def answers(config: Configuration, host: Host, queries: Iterable[Query], start: Start) -> list[Verdict]:
    """What becomes of many queries, dnsmasq having started just now: `start` is `starts(config, host)`."""
    served = records(config, host)
    return [_answer(config, host, query, start, start.sockets, served) for query in queries]


def _answer(
    config: Configuration,
    host: Host,
    query: Query,
    start: Start,
    sockets: tuple[Socket, ...],
    served: tuple[Record, ...],
) -> Verdict:
    if not start.started:
        return Verdict(Outcome.NOT_STARTED, f"dnsmasq does not start: {start.because}", start.culprits)
    if query.port != config.port:
        return _other_port(config, query)
    if not host.is_local(query.destination):
        return Verdict(Outcome.TIMEOUT, f"No interface of the host has {query.destination}.")
    socket = _socket_for(sockets, query)
    if socket is None:
        return _no_socket(config, host, query)
    if query.protocol == "udp":
        return _udp(config, host, query, socket, served)
    return _tcp(config, host, query, served)


def _other_port(config: Configuration, query: Query) -> Verdict:
    culprits = (config.port_option,) if config.port_option else ()
    option = written(config.port_option) if config.port_option else "the default"
    serves = f"dnsmasq serves port {config.port}" if config.port else "The DNS part of dnsmasq is off"
    return Verdict(Outcome.REFUSED, f"{serves}, not port {query.port}: {option}.", culprits)


def _socket_for(sockets: tuple[Socket, ...], query: Query) -> Socket | None:
    scope = query.arrival if query.destination.version == 6 and query.destination.is_link_local else ""
    for socket in sockets:
        if socket.protocol != query.protocol or socket.ip.version != query.destination.version:
            continue
        if socket.ip.is_unspecified or (socket.ip, socket.scope) == (query.destination, scope):
            return socket
    return None


def _no_socket(config: Configuration, host: Host, query: Query) -> Verdict:
    mode = f"{config.binding} opens sockets on served addresses only"
    owner = host.owner(query.destination)
    if owner is None:
        return Verdict(Outcome.REFUSED, f"{mode}, and no interface has {query.destination} itself.", config.listing)
    found = rejection(config, host, query.destination, label(owner))
    if found:
        because = f"{mode}, and {query.destination} on {label(owner)} {found.because}."
        return Verdict(Outcome.REFUSED, because, found.culprits)
    if config.binding is Binding.DYNAMIC or config.bind_interfaces is None:
        return Verdict(Outcome.REFUSED, f"dnsmasq could not bind {query.destination}: another process holds it.")
    because = (
        f"{query.destination} has come after dnsmasq started, and {written(config.bind_interfaces)} binds at start"
        " only: dnsmasq has to be restarted."
    )
    return Verdict(Outcome.REFUSED, because, (config.bind_interfaces,))


def _udp(config: Configuration, host: Host, query: Query, socket: Socket, served: tuple[Record, ...]) -> Verdict:
    foreign = _not_local(config, host, query)
    if foreign:
        return replace(foreign, outcome=Outcome.TIMEOUT)
    if config.binding is Binding.INTERFACES and query.destination.version == 4:
        replies_from = query.reply_from or host.source_towards(query.source, query.arrival)
        if socket.ip.is_unspecified and replies_from != query.destination:
            because = (
                f"The reply leaves from {replies_from}, not from {query.destination}: with bind-interfaces the kernel"
                f" chooses the source of what is sent from {socket.ip}."
            )
            return Verdict(Outcome.TIMEOUT, because, _asking_for(config, socket.ip))
        return _answered(query, any(record.auth for record in _of(served, query.destination)))
    found = rejection(config, host, query.destination, query.arrival)
    if found is None:
        return _answered(query, is_auth(config, query.destination, query.arrival))
    if _loopback_exception(host, served, query) or _label_exception(served, query):
        return _answered(query, auth=False)
    return Verdict(Outcome.TIMEOUT, _arrives(query, found), found.culprits)


def _tcp(config: Configuration, host: Host, query: Query, served: tuple[Record, ...]) -> Verdict:
    if config.binding is not Binding.INTERFACES:
        family = [record for record in served if record.address.ip.version == query.destination.version]
        arrived = [record for record in family if record.address.interface == query.arrival]
        if not arrived and not _loopback_exception(host, served, query):
            return _closed_at_arrival(config, host, query)
    if config.binding is Binding.WILDCARD:
        if not _of(served, query.destination):
            return _closed_at_destination(config, host, query)
        if query.destination.version == 6 and query.destination.is_link_local and not query.source.is_link_local:
            because = (
                f"The kernel names no scope for {query.destination} to a connection from {query.source}, so dnsmasq"
                " does not find its address: a link-local one is served to link-local sources."
            )
            return Verdict(Outcome.CLOSED, because)
    foreign = _not_local(config, host, query)
    if foreign:
        return replace(foreign, outcome=Outcome.CLOSED)
    return _answered(query, any(record.auth for record in _of(served, query.destination)[:1]))


def _closed_at_arrival(config: Configuration, host: Host, query: Query) -> Verdict:
    version = query.destination.version
    own = [
        address for address in host.addresses if address.interface == query.arrival and address.ip.version == version
    ]
    found = [rejection(config, host, address.ip.ip, label(address)) for address in own]
    by_name = next((reason for reason in found if reason), None)
    if not own:
        by_name = rejection(config, host, ip_address("0.0.0.0" if version == 4 else "::"), query.arrival)
    if by_name:
        return Verdict(Outcome.CLOSED, _arrives(query, by_name), by_name.culprits)
    because = (
        f"The connection arrives on {query.arrival}, which has no IPv{version} address: only with bind-interfaces does"
        " dnsmasq serve TCP there."
    )
    return Verdict(Outcome.CLOSED, because, (config.bind_dynamic,) if config.bind_dynamic else ())


def _closed_at_destination(config: Configuration, host: Host, query: Query) -> Verdict:
    owner = host.owner(query.destination)
    found = rejection(config, host, query.destination, label(owner)) if owner else None
    if owner is None or found is None:
        because = f"Over TCP dnsmasq serves only addresses that interfaces have, and {query.destination} is none."
        return Verdict(Outcome.CLOSED, because)
    because = f"{query.destination} on {label(owner)} {found.because}."
    return Verdict(Outcome.CLOSED, because, found.culprits)


def _arrives(query: Query, found: Rejection) -> str:
    return f"The query arrives on {query.arrival}, which {found.because}."


def _not_local(config: Configuration, host: Host, query: Query) -> Verdict | None:
    if not config.local_service or config.local_scope != "net":
        return None
    for address in host.addresses:
        if address.ip.version == query.source.version and query.source in address.ip.network:
            return None
    because = (
        f"{written(config.local_service)} answers only sources in a subnet of an own address, and {query.source} is in"
        " none; it is in force because there is no interface, except-interface, listen-address or auth-server option."
    )
    return Verdict(Outcome.TIMEOUT, because, (config.local_service,))


def _of(served: tuple[Record, ...], ip: IP) -> list[Record]:
    return [record for record in served if record.address.ip.ip == ip]


def _loopback_exception(host: Host, served: tuple[Record, ...], query: Query) -> bool:
    """What comes in over loopback is taken if it is for any served address."""
    return query.arrival in host.loopbacks and bool(_of(served, query.destination))


def _label_exception(served: tuple[Record, ...], query: Query) -> bool:
    """`interface=bond0:1` names a label, but arrivals carry the interface's name: the served address itself decides."""
    of = _of(served, query.destination)
    return query.destination.version == 4 and any(record.address.interface == query.arrival for record in of)


def _asking_for(config: Configuration, ip: IP) -> tuple[Option, ...]:
    return tuple(entry.option for entry in config.addresses if entry.ip == ip)


def _answered(query: Query, auth: bool) -> Verdict:
    if auth:
        because = f"auth-server serves {query.destination} for its own zones only; other names get REFUSED."
        return Verdict(Outcome.ANSWERED, because, authoritative_only=True)
    return Verdict(Outcome.ANSWERED, f"dnsmasq takes {query.protocol} from {query.source} on {query.arrival}.")
