"""Whom a resolver asks for what it does not know itself, by domain.

dnsmasq: `server=` and `local=` (one_opt and parse_server in src/option.c of 2.90), and without no-resolv the name
servers of its resolv-file. A servers-file and rev-server= are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facts.addresses import ip_address, of_endpoint, shortest, usable
from facts.dnsmasq import Instance
from facts.resolver import PATH, Link
from facts.snapshot import Snapshot

#: Where systemd-resolved writes the name servers that it asks itself.
UPLINKS = "/run/systemd/resolve/resolv.conf"
#: Its own copy for programs, with its stub alone.
STUB = "/run/systemd/resolve/stub-resolv.conf"

#: How a link is named for all names.
_ROOT = {"~.", "."}


@dataclass(frozen=True)
class Upstream:
    """One server that a resolver asks.

    + domain: of the names that it is asked for, "" for whatever no other one is named for
    + address: "" for nobody: the resolver answers the domain itself, or not at all
    + because: the line that says so: "server=/zju.edu.cn/10.10.0.21 (/etc/dnsmasq.d/20-upstreams.conf:5)"
    """

    domain: str
    address: str
    port: int
    because: str


def of_dnsmasq(instance: Instance, snapshot: Snapshot) -> list[Upstream]:
    """What a dnsmasq of this node asks, as its configuration on disk says; none where that cannot be read."""
    found: list[Upstream] = []
    for option in instance["options"]:
        if option["name"] not in ("server", "local") or not option["value"]:
            continue
        where = f"{option['file']}:{option['line']}" if option["file"] else "the command line"
        domains, server = _parts(option["value"])
        address, port = _server(server)
        if address:
            because = f"{option['name']}={option['value']} ({where})"
            found += [Upstream(domain, address, port, because) for domain in domains]
    if not any(option["name"] == "no-resolv" for option in instance["options"]):
        files = [option["value"] or "" for option in instance["options"] if option["name"] == "resolv-file"]
        for file in files or [PATH]:
            found += _of_file(file, snapshot)
    return list(dict.fromkeys(found))


def of_resolved(snapshot: Snapshot) -> list[Upstream]:
    """What systemd-resolved asks, by domain; none where it does not run, and none that it asks over TLS.

    A link's servers are asked for its domains alone where it has some that only route ("~corp.example") or
    DNSDefaultRoute=no, or where others are there for all names ("~."). Source: systemd.network(5), resolved.conf(5),
    dns_scope_good_domain and dns_scope_is_default_route in src/resolve/resolved-dns-scope.c.
    """
    resolved = snapshot["resolved"]["value"]
    if not resolved:
        return []
    everywhere: Link = {"interface": "", "servers": resolved["servers"], "domains": resolved["domains"]}
    scopes = [scope for scope in (everywhere, *resolved["links"]) if scope["servers"]]
    whole = any(_ROOT & set(scope["domains"]) for scope in scopes)
    found: dict[tuple[str, str, int], Upstream] = {}
    for scope in scopes:
        if scope.get("tls", resolved.get("tls", False)):
            continue
        because = f" ({scope['interface']})" if scope["interface"] else ""
        for address, port in map(_of_resolved, scope["servers"]):
            for domain in _routed(scope, whole) if address else ():
                said = f"systemd-resolved's server {address}{because}"
                found.setdefault((domain, address, port), Upstream(domain, address, port, said))
    named = {address for scope in scopes for address, _ in map(_of_resolved, scope["servers"])}
    # Those of every link where resolvectl is not there, and the fallback ones.
    for address in resolved["uplinks"] if not resolved.get("tls") else ():
        if _of_resolved(address)[0] and address not in named:
            found["", address, 53] = Upstream("", address, 53, f"systemd-resolved's server {address}")
    return list(found.values())


def _routed(scope: Link, whole: bool) -> list[str]:
    """The domains that a link's servers are asked for, "" for whatever no domain is named for.

    + whole: some link is there for all names
    """
    own = [domain for domain in scope["domains"] if domain not in _ROOT]
    routing = [domain for domain in own if domain.startswith("~")]
    default = not scope["interface"] or scope.get("default_route", not routing)
    general = bool(_ROOT & set(scope["domains"])) or (default and not whole)
    # A search domain of a link that is asked for everything is no promise that its servers know that domain.
    domains = [domain.removeprefix("~").strip(".").lower() for domain in (routing if general else own)]
    return [*([""] if general else []), *filter(None, dict.fromkeys(domains))]


def _of_resolved(server: str) -> tuple[str, int]:
    """`10.0.0.1`, `10.0.0.1:5353#dns.example`, `[fd00::1]:5353` -> address and port; "" for what cannot be asked."""
    text = server.partition("#")[0]
    address, port = (text, 53) if usable(text) else of_endpoint(text)
    # resolvectl names a link's server without the link.
    return ("", 0) if not address or (":" in address and ip_address(address).is_link_local) else (address, port)


def of_resolv_conf(nameservers: Iterable[str], whose: str) -> list[Upstream]:
    """What a resolver asks that forwards to its resolv.conf: libc's limit of three name servers is not its own."""
    return [
        Upstream("", address, 53, f"nameserver {address} in {whose}")
        for address in dict.fromkeys(nameservers)
        if usable(address)
    ]


def chosen(upstreams: Sequence[Upstream], domain: str) -> list[Upstream]:
    """Those that are asked for a domain: the ones named for the longest domain that holds it."""
    holding = [one for one in upstreams if within(domain, one.domain)]
    longest = max((one.domain.count(".") + 1 if one.domain else 0 for one in holding), default=0)
    asked = [one for one in holding if (one.domain.count(".") + 1 if one.domain else 0) == longest]
    return [one for one in asked if one.address]


def within(name: str, domain: str) -> bool:
    """Whether a name is the domain or below it."""
    return not domain or name == domain or name.endswith(f".{domain}")


def _of_file(file: str, snapshot: Snapshot) -> list[Upstream]:
    resolv_conf = snapshot["resolv_conf"]["value"]
    if resolv_conf and file in (PATH, resolv_conf["target"]):
        return of_resolv_conf(resolv_conf["nameservers"], file)
    if file == STUB:
        return of_resolv_conf(["127.0.0.53"], file)
    resolved = snapshot["resolved"]["value"]
    # Who reads that file knows of no domains, and of no TLS.
    return of_resolv_conf(resolved["uplinks"], file) if file == UPLINKS and resolved else []


def _parts(value: str) -> tuple[list[str], str]:
    """`/a/b/1.2.3.4` -> its domains and its server; a value without slashes is for every domain."""
    if not value.startswith("/"):
        return [""], value
    *domains, server = value[1:].split("/")
    # "//" is for names without a dot; "#" is every name.
    named = [domain.strip(".").removeprefix("*").strip(".").lower() for domain in domains if domain]
    return ["" if domain == "#" else domain for domain in named], server


def _server(text: str) -> tuple[str, int]:
    """`10.0.0.1#5353@eth0` -> address and port; "" for `#` (the usual servers), nothing (local), or a host's name."""
    address, _, port = text.partition("@")[0].strip().partition("#")
    good = usable(address) and (not port or port.isdecimal())
    return (shortest(address), int(port or 53)) if good and 0 < int(port or 53) < 65536 else ("", 0)
