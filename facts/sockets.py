"""What listens on a node: UDP and TCP sockets, with the processes that hold them."""

from __future__ import annotations

import re
from typing import Literal, TypedDict

from typing_extensions import override

from facts.addresses import address_text
from facts.reading import NodeFact


class Owner(TypedDict):
    """A process that holds a socket. `process` is the kernel's short name for it (at most 15 characters)."""

    process: str
    pid: int


class Socket(TypedDict):
    """One listening socket.

    `address` is as the socket is bound: "0.0.0.0" takes IPv4 only, "::" IPv6 only, "*" both. `interface` is the device
    that it is bound to or the scope of a link-local address, "" if none, None if the node could not tell.
    `owners` is empty when no process holds the socket (it is the kernel's, or of another PID namespace) and None when
    that is not known, because somebody else than root asked. `process` and `pid` are those of the first owner.
    """

    protocol: Literal["udp", "tcp"]
    address: str
    interface: str | None
    port: int
    process: str
    pid: int | None
    owners: list[Owner] | None


MOST = 2000

_OWNER = re.compile(r'\("(.*?)",pid=(\d+),fd=\d+\)')


class ListeningSockets(NodeFact[list[Socket]]):
    """Every UDP and TCP socket that waits for clients, in the network namespace of the asking shell.

    Source: `ss -tulpn`, ss(8). Where tcp_diag and udp_diag are modules that are not loaded, ss reads /proc instead:
    otherwise it would have the kernel load them (net/core/sock_diag.c). /proc does not tell a socket's device.

    .. code:: python

        {
            "state": "value",
            "value": [
                {"protocol": "udp", "address": "127.0.0.53", "interface": "lo", "port": 53,
                 "process": "systemd-resolve", "pid": 38, "owners": [{"process": "systemd-resolve", "pid": 38}]},
            ],
            "detail": "",
        }
    """

    script = rf"""
no_load() {{
    [ ! -e /proc/modules ] || [ -d "/sys/module/$1" ] || grep -qs "/$1\.ko" "/lib/modules/$(uname -r)/modules.builtin"
}}
from=netlink
no_load tcp_diag && no_load udp_diag || {{ from=proc; export PROC_ROOT=/proc; }}
sockets=$(ss -H -tulpn) || exit $?
echo "from $from user ${{euid:-$(id -u)}}"
# A line has more than 30 characters: where there is nothing to be cut, nothing is started to cut it.
if [ "${{#sockets}}" -lt {30 * MOST} ]; then printf '%s\n' "$sockets"; exit 0; fi
printf '%s\n' "$sockets" | awk '
    NR <= {MOST}
    END {{ if (NR > {MOST}) print "truncated: {MOST} of " NR " sockets" > "/dev/stderr" }}'
"""

    @override
    def read(self, output: list[str]) -> list[Socket]:
        _, source, _, user = output[0].split()
        return [_socket(line, source == "netlink", user == "0") for line in output[1:] if line.strip()]


def _socket(line: str, device_known: bool, owners_known: bool) -> Socket:
    protocol, _, _, _, local, _, *rest = line.split(maxsplit=6)
    if protocol not in ("udp", "tcp"):
        raise ValueError(f"protocol of {line!r}")
    bound, _, port = local.rpartition(":")
    # An IPv6 scope stands behind the bracket, an IPv4 one behind the address.
    address, _, interface = bound.partition("%")
    owners: list[Owner] = []
    for process, pid in _OWNER.findall(rest[0] if rest else ""):
        if (owner := Owner(process=process, pid=int(pid))) not in owners:
            owners.append(owner)
    return {
        "protocol": "udp" if protocol == "udp" else "tcp",
        "address": address if address == "*" else address_text(address.strip("[]")),
        "interface": interface if interface or device_known else None,
        "port": int(port),
        "process": owners[0]["process"] if owners else "",
        "pid": owners[0]["pid"] if owners else None,
        "owners": owners if owners or owners_known else None,
    }
