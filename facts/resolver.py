"""Whom a node's programs ask: resolv.conf, and systemd-resolved behind it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NotRequired, TypedDict

from typing_extensions import override

from facts.addresses import shortest
from facts.reading import NodeFact

PATH = "/etc/resolv.conf"


class Resolv(TypedDict):
    """A resolv.conf as resolv.conf(5) reads it; libc asks the first three name servers only.

    `target` is where the symlink ends, "" for a plain file; a link that leads nowhere has no name servers.
    """

    path: str
    target: str
    nameservers: list[str]
    search: list[str]
    options: list[str]


class ResolvConf(NodeFact[Resolv | None]):
    """The node's /etc/resolv.conf; "empty" when there is none. Source: resolv.conf(5).

    .. code:: python

        {
            "state": "value",
            "value": {"path": "/etc/resolv.conf", "target": "/run/systemd/resolve/stub-resolv.conf",
                      "nameservers": ["127.0.0.53"], "search": ["."], "options": ["edns0", "trust-ad"]},
            "detail": "",
        }
    """

    script = f"""
[ -e {PATH} ] || [ -L {PATH} ] || exit 0
target=""
[ ! -L {PATH} ] || target=$(readlink -f {PATH} || readlink {PATH})
printf '%s\\n' "target $target"
[ -e {PATH} ] || exit 0
head -c 20000 {PATH}
"""

    @staticmethod
    @override
    def nothing() -> Resolv | None:
        return None

    @override
    def read(self, output: list[str]) -> Resolv | None:
        if not output:
            return None
        return read_resolv_conf(PATH, output[0].removeprefix("target").strip(), output[1:])


def read_resolv_conf(path: str, target: str, lines: Iterable[str]) -> Resolv:
    """A resolv.conf's lines as libc takes them: keywords start the line, and the last `search` or `domain` counts."""
    found: Resolv = {"path": path, "target": target, "nameservers": [], "search": [], "options": []}
    for line in lines:
        keyword, *words = line.split()[:200] or [""]
        if line[:1].isspace() or not words:
            continue
        if keyword == "nameserver":
            found["nameservers"].append(shortest(words[0]))
        elif keyword == "search":
            found["search"] = words
        elif keyword == "domain":
            found["search"] = words[:1]
        elif keyword == "options":
            found["options"] += words
    return found


Stub = Literal["yes", "no", "udp", "tcp", "unknown"]


class Link(TypedDict):
    """What systemd-resolved knows for one interface.

    + default_route: DNSDefaultRoute=, where that is set; tls: DNSOverTLS=, where that is set: over TLS and no other way
    """

    interface: str
    servers: list[str]
    domains: list[str]
    default_route: NotRequired[bool]
    tls: NotRequired[bool]


class ResolvedState(TypedDict):
    """systemd-resolved as configured, and as it runs.

    `stub` is DNSStubListener= in the files, `extra` DNSStubListenerExtra=; what is open is in `ListeningSockets`.
    `servers` and `domains` are the global ones. `uplinks` are the name servers that it asks, over all links, as it has
    written them to /run/systemd/resolve/resolv.conf. `tls` is DNSOverTLS= in the files: over TLS and no other way. All
    but `stub`, `extra` and `tls` are empty when it does not run.
    """

    running: bool
    stub: Stub
    extra: list[str]
    servers: list[str]
    domains: list[str]
    links: list[Link]
    uplinks: list[str]
    tls: NotRequired[bool]


_LINKS = "/run/systemd/netif/links/* /run/systemd/resolve/netif/*"
_FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")


class Resolved(NodeFact[ResolvedState | None]):
    """systemd-resolved's servers and its stub. Source: resolved.conf(5), systemd-resolved.service(8), resolvectl(1).

    resolvectl is asked only where the service runs already: D-Bus would start it.

    .. code:: python

        {
            "state": "value",
            "value": {
                "running": True, "stub": "yes", "extra": [], "servers": ["172.25.4.1"], "domains": ["~."],
                "links": [{"interface": "bond0", "servers": ["172.25.4.1"], "domains": []}],
                "uplinks": ["172.25.4.1"], "tls": False,
            },
            "detail": "",
        }
    """

    script = rf"""
[ -d /run/systemd/system ] || {{ echo "systemd does not run here" >&2; exit 127; }}
newline='
'
for folder in {" ".join(_FOLDERS)}; do
    for file in "$folder/resolved.conf" "$folder"/resolved.conf.d/*.conf; do
        [ -f "$file" ] || continue
        [ -r "$file" ] || exit 77
        printf '%s\n' "file $file"
        IFS=$newline
        set -f
        for line in $(head -c 20000 "$file"); do
            case $line in [#\;]*) ;; *) printf ' %s\n' "$line" ;; esac
        done
        set +f
        unset IFS
    done
done
[ "$(systemctl is-active systemd-resolved.service)" = active ] || exit 0
echo running
sed -n 's/^nameserver/uplinks &/p' /run/systemd/resolve/resolv.conf
# What networkd, and who else told systemd-resolved of a link, has set there. `resolvectl status` is dearer.
grep -s -E '^(DNS_DEFAULT_ROUTE|DEFAULT_ROUTE|DNS_OVER_TLS|DNSOVERTLS)=' /dev/null {_LINKS} | sed 's/^/set /'
command -v resolvectl >/dev/null || {{ echo "no resolvectl: the servers of each link are not known" >&2; exit 0; }}
export COLUMNS=10000
servers=$(resolvectl --no-pager dns) && domains=$(resolvectl --no-pager domain) || exit $?
IFS=$newline
set -f
printf 'dns %s\n' $servers
printf 'domain %s\n' $domains
"""

    @staticmethod
    @override
    def nothing() -> ResolvedState | None:
        return None

    @override
    def read(self, output: list[str]) -> ResolvedState | None:
        files: dict[str, list[str]] = {}
        running = False
        live: dict[str, list[str]] = {"uplinks": [], "dns": [], "domain": [], "set": []}
        lines: list[str] = []
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "file":
                lines = files[rest] = []
            elif word == "running":
                running = True
            elif word in live:
                live[word].append(rest)
            elif word == "":
                lines.append(rest)
            else:
                raise ValueError(f"unknown line {line!r}")
        stub, extra = stub_listeners(files)
        servers, domains = _per_link(live["dns"]), _per_link(live["domain"])
        names = dict.fromkeys([*servers, *domains])
        numbers = {match["interface"]: match["number"] for line in live["dns"] if (match := _LINK.match(line))}
        settings = _link_settings(live["set"])
        return {
            "running": running,
            "stub": stub,
            "extra": extra,
            "servers": servers.get("", []),
            "domains": domains.get("", []),
            "links": [
                _link(name, servers.get(name, []), domains.get(name, []), settings.get(numbers.get(name, ""), {}))
                for name in names
                if name and (servers.get(name) or domains.get(name))
            ],
            "uplinks": read_resolv_conf("", "", live["uplinks"])["nameservers"],
            "tls": _is_true(dict(_settings(files)).get("DNSOverTLS", "")),
        }


def _link(name: str, servers: list[str], domains: list[str], settings: dict[str, bool]) -> Link:
    found: Link = {"interface": name, "servers": servers, "domains": domains}
    if "default_route" in settings:
        found["default_route"] = settings["default_route"]
    if "tls" in settings:
        found["tls"] = settings["tls"]
    return found


def _link_settings(lines: list[str]) -> dict[str, dict[str, bool]]:
    """`/run/systemd/netif/links/2:DNS_DEFAULT_ROUTE=no`: by the link's number; "opportunistic" is not TLS alone."""
    found: dict[str, dict[str, bool]] = {}
    for line in lines:
        path, _, setting = line.partition(":")
        key, _, value = setting.partition("=")
        of_link = found.setdefault(posixpath.basename(path), {})
        if key.endswith("DEFAULT_ROUTE"):
            of_link["default_route"] = _is_true(value)
        else:
            of_link["tls"] = _is_true(value)
    return found


_TRUE = ("1", "yes", "y", "true", "t", "on")
_STUBS: dict[str, Stub] = {
    **dict.fromkeys(_TRUE, "yes"),
    **dict.fromkeys(("0", "no", "n", "false", "f", "off"), "no"),
    "udp": "udp",
    "tcp": "tcp",
}


def _is_true(text: str) -> bool:
    """A boolean of systemd (parse_boolean in basic/parse-util.c)."""
    return text.strip().lower() in _TRUE


def stub_listeners(files: dict[str, list[str]]) -> tuple[Stub, list[str]]:
    """DNSStubListener= and DNSStubListenerExtra= that are in effect, out of resolved.conf and its drop-ins."""
    stub: Stub = "yes"
    extra: list[str] = []
    for key, value in _settings(files):
        if key == "DNSStubListener":
            stub = _STUBS.get(value.lower(), stub)
        elif key == "DNSStubListenerExtra":
            extra = [*extra, value] if value else []
    return stub, extra


def _settings(files: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """What resolved.conf and its drop-ins set, in the order in which they are read.

    + files: path to lines; the first main file in the order /etc, /run, /usr/local/lib, /usr/lib is read, then the
      drop-ins by file name, of which one in an earlier folder hides those of the same name in a later one

    Source: resolved.conf(5) and systemd's config_parse_many (shared/conf-parser.c).
    """
    main = [path for folder in _FOLDERS if (path := f"{folder}/resolved.conf") in files][:1]
    drop_ins: dict[str, str] = {}
    for folder in _FOLDERS:
        for path in files:
            if posixpath.dirname(path) == f"{folder}/resolved.conf.d":
                drop_ins.setdefault(posixpath.basename(path), path)
    for path in [*main, *(drop_ins[name] for name in sorted(drop_ins))]:
        yield from _resolve_section(files[path])


def _resolve_section(lines: list[str]) -> Iterable[tuple[str, str]]:
    section = ""
    for line in lines:
        text = line.strip()
        if not text or text[0] in "#;":
            continue
        if text.startswith("["):
            section = text
        elif section == "[Resolve]" and "=" in text:
            key, _, value = text.partition("=")
            yield key.strip(), value.strip()


_LINK = re.compile(r"^(?:Global|Link (?P<number>\d+) \((?P<interface>[^)]+)\)):(?P<words>.*)$")


def _per_link(lines: list[str]) -> dict[str, list[str]]:
    """`resolvectl dns` or `resolvectl domain`: interface ("" for global) to words. A long list continues, indented."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if match := _LINK.match(line):
            current = found.setdefault(match["interface"] or "", [])
            current += match["words"].split()
        else:
            current += line.split()
    return found
