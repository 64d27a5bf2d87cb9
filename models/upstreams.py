"""Whom a resolver asks for what it does not know itself, by domain.

dnsmasq: `server=` and `local=` (one_opt and parse_server in src/option.c of 2.90), and without no-resolv the name
servers of its resolv-file. A servers-file and rev-server= are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facts.addresses import ip_address, shortest
from facts.dnsmasq import Instance
from facts.resolver import PATH
from facts.snapshot import Snapshot

#: Where systemd-resolved writes the name servers that it asks itself.
UPLINKS = "/run/systemd/resolve/resolv.conf"
#: Its own copy for programs, with its stub alone.
STUB = "/run/systemd/resolve/stub-resolv.conf"


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
    """What systemd-resolved asks, over all links; none where it does not run."""
    resolved = snapshot["resolved"]["value"]
    uplinks = resolved["uplinks"] if resolved else []
    return [Upstream("", address, 53, f"systemd-resolved's server {address}") for address in uplinks if usable(address)]


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


def usable(address: str) -> bool:
    """An address that can be asked: link-local ones with an interface (`fe80::1%eth0`) are not."""
    try:
        ip_address(address)
    except ValueError:
        return False
    return "%" not in address


def _of_file(file: str, snapshot: Snapshot) -> list[Upstream]:
    resolv_conf = snapshot["resolv_conf"]["value"]
    if resolv_conf and file in (PATH, resolv_conf["target"]):
        return of_resolv_conf(resolv_conf["nameservers"], file)
    if file == STUB:
        return of_resolv_conf(["127.0.0.53"], file)
    return of_resolv_conf((one.address for one in of_resolved(snapshot)), file) if file == UPLINKS else []


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
