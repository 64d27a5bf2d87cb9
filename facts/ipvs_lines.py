"""IPVS in its three notations: `ipvsadm -Sn`, `ipvsadm -ln --stats --exact`, and the hexadecimal one of /proc."""

from __future__ import annotations

import ipaddress
from typing import Literal, TypedDict

Protocol = Literal["tcp", "udp", "sctp", "fwmark"]


class Counters(TypedDict):
    """Since the service or real server was added. The kernel adds up every two seconds: they lag that long."""

    connections: int
    in_packets: int
    out_packets: int
    in_bytes: int
    out_bytes: int


class Server(TypedDict):
    """A real server. `forward` is "masq" (NAT), "route" (direct) or "tunnel". Weight 0 takes no new connections.

    `active` and `inactive` are connections; all of UDP's are inactive. `counters` is None where they are not known.
    """

    address: str
    port: int
    forward: Literal["masq", "route", "tunnel"]
    weight: int
    active: int
    inactive: int
    counters: Counters | None


class Service(TypedDict):
    """A virtual service. `fwmark` is 0 but for a service by firewall mark, which has no address and port 0.

    `options` are the rest, as ipvsadm writes them ("-p", "10800" for persistence; "-o" for one-packet scheduling).
    """

    protocol: Protocol
    address: str
    port: int
    fwmark: int
    scheduler: str
    options: list[str]
    servers: list[Server]
    counters: Counters | None


class Connection(TypedDict):
    """Connection entries with one destination. `longest` is the largest of their remaining lives, in seconds.

    UDP entries live for 300 s after their last packet: a client that keeps its port stays with its real server.
    """

    protocol: Protocol
    virtual: str
    virtual_port: int
    destination: str
    port: int
    state: str
    entries: int
    longest: int


_PROTOCOL: dict[str, Protocol] = {
    "-t": "tcp",
    "-u": "udp",
    "--sctp-service": "sctp",
    "-f": "fwmark",
    "TCP": "tcp",
    "UDP": "udp",
    "SCTP": "sctp",
    "FWM": "fwmark",
}
_FORWARD: dict[str, Literal["masq", "route", "tunnel"]] = {
    "-m": "masq",
    "-g": "route",
    "-i": "tunnel",
    "Masq": "masq",
    "Route": "route",
    "Local": "route",
    "Tunnel": "tunnel",
}


def service_key(service: Service) -> str:
    """What a service is known by."""
    return f"{service['protocol']} {service['address']} {service['port']} {service['fwmark']}"


def server_key(server: Server) -> str:
    """What a real server is known by within its service."""
    return f"{server['address']} {server['port']}"


def read_save(lines: list[str]) -> list[Service]:
    """`ipvsadm -Sn`: `-A -u 10.32.0.10:53 -s rr` and `-a -u 10.32.0.10:53 -r 10.244.0.11:53 -m -w 1`.

    Raises ValueError or IndexError for a line that is neither.
    """
    services: list[Service] = []
    for line in lines:
        words = line.split()
        if words[0] == "-A":
            service = _service(_PROTOCOL[words[1]], words[2])
            service["scheduler"] = words[words.index("-s") + 1]
            service["options"] = [word for word in words[3:] if word not in ("-s", service["scheduler"])]
            services.append(service)
        elif words[0] == "-a":
            forward = next((_FORWARD[word] for word in words[5:] if word in _FORWARD), None)
            if forward is None:
                raise ValueError(f"no way of forwarding in {line!r}")
            services[-1]["servers"].append(_server(words[words.index("-r") + 1], forward, words[words.index("-w") + 1]))
        else:
            raise ValueError(f"no line of ipvsadm -Sn: {line!r}")
    return services


def read_proc(lines: list[str]) -> list[Service]:
    """/proc/net/ip_vs without its header: the services with their connections. Raises ValueError for other lines."""
    services: list[Service] = []
    for line in lines:
        words = line.split()
        if words[0] == "->":
            server = _server(_dotted(words[1]), _FORWARD[words[2]], words[3])
            server["active"], server["inactive"] = int(words[4]), int(words[5])
            services[-1]["servers"].append(server)
            continue
        protocol = _PROTOCOL[words[0]]
        name = str(int(words[1], 16)) if protocol == "fwmark" else _dotted(words[1])
        service = _service(protocol, name)
        service["scheduler"] = words[2]
        # In ipvsadm's own words; the persistence's time is in ticks here, of which the kernel does not tell the length.
        if "persistent" in words:
            service["options"].append("-p")
        if "ops" in words:
            service["options"].append("-o")
        services.append(service)
    return services


def read_stats(lines: list[str]) -> dict[str, dict[str, Counters]]:
    """`ipvsadm -ln --stats --exact`, by the key of the service, then of the real server ("" for the service itself)."""
    found: dict[str, dict[str, Counters]] = {}
    current: dict[str, Counters] = {}
    for line in lines:
        words = line.split()
        connections, in_packets, out_packets, in_bytes, out_bytes = (int(word) for word in words[2:7])
        counters: Counters = {
            "connections": connections,
            "in_packets": in_packets,
            "out_packets": out_packets,
            "in_bytes": in_bytes,
            "out_bytes": out_bytes,
        }
        if words[0] == "->":
            current[server_key(_server(words[1], "masq", "0"))] = counters
        else:
            current = found.setdefault(service_key(_service(_PROTOCOL[words[0]], words[1])), {})
            current[""] = counters
    return found


def read_connection(line: str) -> Connection:
    """`UDP 0A20000A 0035 0AF4000C 0035 UDP 3 240`: fields of /proc/net/ip_vs_conn, how many, and the longest life."""
    protocol, virtual, virtual_port, destination, port, state, entries, longest = line.split()
    return {
        "protocol": _PROTOCOL[protocol],
        "virtual": _address(virtual),
        "virtual_port": int(virtual_port, 16),
        "destination": _address(destination),
        "port": int(port, 16),
        "state": state,
        "entries": int(entries),
        "longest": int(longest),
    }


def _service(protocol: Protocol, name: str) -> Service:
    service: Service = {
        "protocol": protocol,
        "address": "",
        "port": 0,
        "fwmark": 0,
        "scheduler": "",
        "options": [],
        "servers": [],
        "counters": None,
    }
    if protocol == "fwmark":
        service["fwmark"] = int(name)
    else:
        service["address"], service["port"] = _end(name)
    return service


def _server(name: str, forward: Literal["masq", "route", "tunnel"], weight: str) -> Server:
    address, port = _end(name)
    return {
        "address": address,
        "port": port,
        "forward": forward,
        "weight": int(weight),
        "active": 0,
        "inactive": 0,
        "counters": None,
    }


def _end(name: str) -> tuple[str, int]:
    """`10.32.0.10:53` or `[2001:db8::a]:53`."""
    address, _, port = name.rpartition(":")
    return str(ipaddress.ip_address(address.strip("[]"))), int(port)


def _dotted(name: str) -> str:
    """`0A20000A:0035` -> `10.32.0.10:53`, and `[2001:0db8:...]:0035` -> `[2001:db8::a]:53`."""
    address, _, port = name.rpartition(":")
    return f"[{_address(address.strip('[]'))}]:{int(port, 16)}"


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text if ":" in text else int(text, 16)))
