"""Whom CoreDNS asks, as its Corefile says: the plugins `forward` and, in older ones, `proxy`, by zone.

Syntax: server blocks of zones, each with its plugins, one in a line (corefile(5), "Server Blocks"). What is imported
(`import`), and upstreams over TLS or HTTPS, are not followed: `forwarded` alone knows of these. A question belongs to
the block with the longest zone that holds its name: what that block hands on to nobody goes to nobody, whatever a
shorter zone's block does. A CoreDNS that is not root listens on another port than 53 (OpenShift's on 5353): that of its
block for the cluster, or for all names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from facts.addresses import ip_address, shortest, usable
from facts.pods import Pod
from facts.snapshot import Snapshot
from models.upstreams import Upstream, of_resolv_conf

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
#: The port of a server that none is named for, by the scheme before it (plugin/pkg/parse of CoreDNS).
_PORTS = {"tls": 853, "https": 443}
_WITH_PORT = re.compile(r"^\[?(?P<host>[^\[\]]*?)\]?(?::(?P<port>\d+))?$")

#: Plugins that hand questions on.
_FORWARDERS = ("forward", "proxy")


def upstreams(corefile: str, nameservers: Sequence[str]) -> list[Upstream]:
    """
    Those that a CoreDNS asks, by zone; none where the file names none.

    Last come the zones for which it asks nobody (`address` is ""): those that the plugin `kubernetes` answers, but for
    addresses' names, which usually fall through to `forward`; and those of a block that names no server.

    + nameservers: of the pod's own resolv.conf, for `forward . /etc/resolv.conf`
    """
    found: list[Upstream] = []
    nobody: dict[str, str] = {}
    lines = list(_plugins(corefile))
    ports = _ports(lines)
    for block, plugin in lines:
        zones = [zone for zone, port in block if port in ports]
        if block and not zones:
            continue
        if not plugin:
            nobody |= dict.fromkeys(zones, "no server in its block of the Corefile")
        elif plugin[0] == "kubernetes":
            own = [zone for word in plugin[1:] if not (zone := _zone(word)).endswith(".arpa")]
            nobody |= dict.fromkeys(own, f"{' '.join(plugin)} in its Corefile")
        if not plugin or plugin[0] not in _FORWARDERS or len(plugin) < 3:
            continue
        source = _zone(plugin[1])
        because = f"{' '.join(plugin)} in its Corefile"
        for zone in zones:
            domain = source or zone
            for server in plugin[2:]:
                found += _servers(domain, server, nameservers, because)
    asked = {one.domain for one in found}
    found += [Upstream(zone, "", 0, because) for zone, because in nobody.items() if zone not in asked]
    return list(dict.fromkeys(found))


def forwarded(corefile: str) -> list[tuple[str, int]]:
    """
    Address and port of everybody that some line hands questions on to; a file of name servers is its path, and port 0.

    Whatever block the line is in: a snippet and a part that a Corefile imports count, and so do blocks that listen on
    another port, which a service may lead to, and servers over TLS.
    """
    found: list[tuple[str, int]] = []
    for words in _lines(corefile):
        named = [word for word in words if word not in ("{", "}")]
        for server in named[2:] if named and named[0] in _FORWARDERS else ():
            scheme, _, end = server.rpartition("://")
            host, port = _host(end, _PORTS.get(scheme, 53))
            if server.startswith("/"):
                found.append((server, 0))
            elif usable(host) and 0 < port < 65536:
                found.append((str(ip_address(host)), port))
    return list(dict.fromkeys(found))


def cluster_ports(corefile: str) -> list[int]:
    """The ports on which it answers for the cluster: those of the server blocks with the plugin `kubernetes`."""
    found = (port for block, plugin in _plugins(corefile) if plugin[:1] == ["kubernetes"] for _, port in block)
    return [port for port in dict.fromkeys(found) if 0 < port < 65536]


def of_pod(pod: Pod, snapshot: Snapshot) -> list[Upstream]:
    """Whom a resolver in a pod asks: as its Corefile says, else its resolv.conf (dnsPolicy Default)."""
    corefile = of_netns(pod["netns"], snapshot)
    return (
        upstreams(corefile, pod["nameservers"]) if corefile else of_resolv_conf(pod["nameservers"], "its resolv.conf")
    )


def of_netns(netns: int, snapshot: Snapshot) -> str:
    """The Corefile of the CoreDNS in a pod, "" where none was read."""
    # A snapshot of an earlier version has no such section.
    running = snapshot["coredns"]["value"] if "coredns" in snapshot else ()
    return next((one["corefile"] for one in running if one["netns"] == netns and one["corefile"]), "")


def _servers(domain: str, server: str, nameservers: Sequence[str], because: str) -> list[Upstream]:
    if server.startswith("/"):
        own = of_resolv_conf(nameservers, "its resolv.conf")
        return [Upstream(domain, one.address, one.port, f"{because}: {one.because}") for one in own]
    host, port = _host(server)
    return [Upstream(domain, shortest(host), port, because)] if usable(host) and 0 < port < 65536 else []


#: Zone and port of each address of a server block; none for a snippet.
_Block = list[tuple[str, int]]


def _ports(lines: Iterable[tuple[_Block, list[str]]]) -> set[int]:
    """Where questions arrive: on port 53, unless the cluster's zone and the root are only on another one."""
    cluster = [port for block, plugin in lines for _, port in block if plugin[:1] == ["kubernetes"]]
    root = [port for block, _ in lines for zone, port in block if not zone]
    own = [*cluster, *root]
    return {53} if 53 in own else {53, *own[:1]}


def _plugins(corefile: str) -> Iterator[tuple[_Block, list[str]]]:
    """Each plugin's line with its server block, first the block's own without any word.

    Snippets and a plugin's own block are passed over.
    """
    depth, block = 0, _Block()
    waiting: list[str] = []
    for words in _lines(corefile):
        opens, closes = words.count("{"), words.count("}")
        named = [word for word in words if word not in ("{", "}")]
        if depth == 0:
            waiting += named
            if opens:
                block = [] if waiting[:1] and waiting[0].startswith("(") else _block(waiting)
                waiting = []
                yield block, []
        elif depth == 1 and named:
            yield block, named
        depth = max(0, depth + opens - closes)


def _lines(corefile: str) -> Iterator[list[str]]:
    for line in corefile.splitlines():
        words: list[str] = []
        for match in _WORD.finditer(line):
            if match[2] and match[2].startswith("#"):
                break
            words.append(match[1] if match[1] is not None else match[2])
        if words:
            yield words


def _block(words: Iterable[str]) -> _Block:
    """What a block listens to without TLS."""
    found: _Block = []
    for word in words:
        for one in filter(None, word.split(",")):
            rest = "" if "://" in one and not one.startswith("dns://") else one.removeprefix("dns://")
            host, port = _host(rest) if rest else ("", 0)
            if port:
                found.append((_zone(host), port))
    return found


def _host(text: str, default: int = 53) -> tuple[str, int]:
    """`10.0.0.1:5353`, `[fd00::1]:53`, `fd00::1`, `example.com:53` -> host and port."""
    text = text.removeprefix("dns://")
    if text.count(":") > 1 and not text.startswith("["):
        return text, default
    match = _WITH_PORT.match(text)
    return (match["host"], int(match["port"] or default)) if match else ("", 0)


def _zone(text: str) -> str:
    return text.strip(".").lower()
