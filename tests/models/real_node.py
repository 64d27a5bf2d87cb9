"""A node of network namespaces with a real dnsmasq on it, and questions from a pod, the LAN and the node itself.

Needs root, iproute2 and util-linux. The namespaces are held by processes that die with this one.
"""

import ctypes
import itertools
import json
import re
import socket
import struct
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from models.dnsmasq import IP, Address, Host, Listener, Outcome, Query

NAME = "probe.test"
QUESTION = struct.pack("!6H", 0x4D4E, 0x0100, 1, 0, 0, 0) + b"\x05probe\x04test\x00" + struct.pack("!2H", 1, 1)
PATIENCE = 0.4
CLONE_NEWNET = 0x40000000

# The measured host, and beside it the two ways in which a pod's packets arrive: on cilium_host and on lxc1234.
NODE = """
ip link set lo up
ip link add bond0 type veth peer name eth0 netns {lan}
ip link add cilium_host type veth peer name eth0 netns {pod}
ip link add lxc1234 type veth peer name eth0 netns {endpoint}
ip link add cilium_net type veth peer name unused netns {lan}
for link in bond0 cilium_host lxc1234 cilium_net; do
    ip link set $link addrgenmode none
    echo 0 > /proc/sys/net/ipv4/conf/$link/rp_filter
    ip link set $link up
done
echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
# "Port unreachable" is sent once a second only, otherwise.
echo 0 > /proc/sys/net/ipv4/icmp_ratemask
echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
ip addr add 172.25.4.10/24 dev bond0
ip addr add 172.25.4.1/24 dev bond0 label bond0:1
ip addr add fd25::1/64 dev bond0 nodad
ip addr add fe80::b0/64 dev bond0 nodad
ip addr add fe80::c1/64 dev cilium_net nodad
ip addr add 172.26.2.58/32 dev cilium_host
ip addr add fd26::58/128 dev cilium_host nodad
ip addr add fe80::c2/64 dev cilium_host nodad
ip addr add fe80::1c/64 dev lxc1234 nodad
ip addr add 172.25.4.5/32 dev lo label lo:vip
ip addr add 172.25.4.6/32 dev cilium_net
ip route add 172.26.2.145/32 dev cilium_host src 172.26.2.58
ip route add fd26::145/128 dev cilium_host
ip route add 172.26.2.146/32 dev lxc1234 src 172.26.2.58
ip route add fd26::146/128 dev lxc1234
ip route add 172.26.9.0/24 via 172.25.4.9
"""
LAN = """
ip link set lo up; ip link set eth0 up; ip link set unused up
ip addr add 172.25.4.9/24 dev eth0; ip addr add fd25::9/64 dev eth0 nodad
ip addr add fe80::9/64 dev eth0 nodad
ip addr add 172.26.9.7/32 dev lo
ip route add 172.26.2.0/24 via 172.25.4.10; ip route add fd26::/64 via fd25::1
"""
POD = """
ip link set lo up; ip link set eth0 up
ip addr add 172.26.2.{last}/32 dev eth0; ip addr add fd26::{last}/128 dev eth0 nodad
ip route add default dev eth0 src 172.26.2.{last}; ip -6 route add default via {gateway} dev eth0
"""


@dataclass
class Namespace:
    """A network namespace and threads in it: a thread's sockets belong to the namespace that it has entered."""

    holder: subprocess.Popen[bytes]
    threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.threads = ThreadPoolExecutor(16, initializer=self._enter)

    def _enter(self) -> None:
        with Path(f"/proc/{self.holder.pid}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def run(self, script: str) -> str:
        inside = ["nsenter", "-t", str(self.holder.pid), "-n", "sh", "-e", "-c", script]
        return subprocess.run(inside, check=True, capture_output=True, text=True, timeout=20).stdout

    def close(self) -> None:
        self.threads.shutdown()
        self.holder.kill()
        self.holder.wait()


def new_namespace() -> Namespace:
    # The pipe says when the namespace is there; --pdeathsig ends the holder with this process.
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo; exec sleep 600"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout and holder.stdout.readline() == b"\n", "unshare --net failed: root is needed"
    return Namespace(holder)


@dataclass
class Node:
    """The node, its neighbours, and what is asked from where: (namespace, source, arrival)."""

    dnsmasq: str
    directory: Path
    node: Namespace
    lan: Namespace
    pod: Namespace
    endpoint: Namespace

    def sources(self, version: int) -> list[tuple[Namespace, str, str]]:
        if version == 6:
            return [
                (self.pod, "fd26::145", "cilium_host"),
                (self.endpoint, "fd26::146", "lxc1234"),
                (self.lan, "fd25::9", "bond0"),
            ]
        return [
            (self.pod, "172.26.2.145", "cilium_host"),
            (self.endpoint, "172.26.2.146", "lxc1234"),
            (self.lan, "172.25.4.9", "bond0"),
            (self.lan, "172.26.9.7", "bond0"),
        ]

    def host(self, held: bool = False) -> Host:
        """The node as the model sees it, read from the kernel."""
        links = json.loads(self.node.run("ip -j addr show"))
        addresses = [
            Address.of(link["ifname"], f"{one['local']}/{one['prefixlen']}", one.get("label", ""))
            for link in links
            for one in link["addr_info"]
        ]
        resolved = [
            Listener.of(protocol, ip, 53, "lo", "systemd-resolve")
            for ip in ("127.0.0.53", "127.0.0.54")
            for protocol in ("udp", "tcp")
        ]
        nonlocal_bind = self.node.run("cat /proc/sys/net/ipv4/ip_nonlocal_bind").strip() == "1"
        names = frozenset(link["ifname"] for link in links)
        return Host(names, tuple(addresses), tuple(resolved) if held else (), nonlocal_bind=nonlocal_bind)

    def queries(self, host: Host) -> list[tuple[Namespace, Query]]:
        """Every source to every kind of address, over UDP and TCP."""
        asked: list[tuple[Namespace, Query]] = []
        routes = {
            source: json.loads(self.node.run(f"ip -j route get {source}"))[0]["prefsrc"]
            for _, source, _ in self.sources(4)
        }
        targets = {
            4: ["172.25.4.1", "172.25.4.10", "172.25.4.5", "172.25.4.6", "172.26.2.58"],
            6: ["fd25::1", "fd26::58"],
        }
        for version, protocol in itertools.product((4, 6), ("udp", "tcp")):
            for target in targets[version]:
                for namespace, source, arrival in self.sources(version):
                    query = Query.of(source, target, protocol, arrival)
                    known = ip_address(routes[source]) if source in routes else None
                    asked.append((namespace, replace(query, reply_from=known)))
            loopback = ["127.0.0.1", "127.0.0.2"] if version == 4 else ["::1"]
            asked += [(self.node, Query.from_host(host, target, protocol)) for target in [*targets[version], *loopback]]
            if version == 6:
                asked += [
                    (self.lan, Query.of(source, "fe80::b0", protocol, "bond0")) for source in ("fd25::9", "fe80::9")
                ]
        return asked

    def hold_port(self) -> list[socket.socket]:
        """Takes port 53 the way systemd-resolved does."""

        pairs = itertools.product(("127.0.0.53", "127.0.0.54"), (socket.SOCK_DGRAM, socket.SOCK_STREAM))
        return [self.node.threads.submit(_bind_to_loopback, ip, kind).result() for ip, kind in pairs]

    def start(self, content: str, arguments: list[str]) -> tuple[subprocess.Popen[str], list[str]]:
        """A dnsmasq with this configuration, and what it says until it has started or ended."""
        path = self.directory / "policy.conf"
        path.write_text(content)
        own = f"--keep-in-foreground --log-facility=- --pid-file= --user=root -R -h --host-record={NAME},192.0.2.7"
        inside = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "nsenter",
            "-t",
            str(self.node.holder.pid),
            "-n",
            self.dnsmasq,
        ]
        process = subprocess.Popen(
            [*inside, *own.split(), *arguments, "-C", str(path)],
            stderr=subprocess.PIPE,
            text=True,
            env={"LC_ALL": "C"},
        )
        said: list[str] = []
        assert process.stderr
        for line in process.stderr:
            if line.strip():
                said.append(re.sub(r"^dnsmasq(\[\d+\])?: ", "", line.strip()))
            # Warnings come before the cache; without DNS there is no such mark.
            if "cleared cache" in line or "DNS disabled" in line:
                break
        return process, said

    def listening(self) -> list[str]:
        lines = self.node.run("ss -Hlntu").splitlines()
        sockets = [(line.split()[0], line.split()[4]) for line in lines]
        return sorted(f"{protocol} {local}" for protocol, local in sockets if "%lo" not in local)


def _bind_to_loopback(ip: str, kind: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, kind)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    bound.bind((ip, 53))
    if kind == socket.SOCK_STREAM:
        bound.listen()
    return bound


def _scope(ip: IP) -> list[int]:
    return [0, socket.if_nametoindex("eth0")] if ip.is_link_local else []


def ask(query: Query, patience: float = PATIENCE) -> str:
    """Asks from the thread's namespace; what came of it, in the words of `Outcome`."""
    family = socket.AF_INET if query.destination.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if query.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as sending:
        sending.settimeout(patience)
        try:
            sending.bind((str(query.source), 0, *_scope(query.source)))
            sending.connect((str(query.destination), query.port, *_scope(query.destination)))
            sending.send(QUESTION if query.protocol == "udp" else struct.pack("!H", len(QUESTION)) + QUESTION)
            return Outcome.ANSWERED if sending.recv(4096) else Outcome.CLOSED
        except TimeoutError:
            return Outcome.TIMEOUT
        except ConnectionRefusedError:
            return Outcome.REFUSED
        except (ConnectionResetError, BrokenPipeError):
            return Outcome.CLOSED


def ask_all(asked: list[tuple[Namespace, Query]], patience: float = PATIENCE) -> list[str]:
    futures: list[Future[str]] = [space.threads.submit(ask, query, patience) for space, query in asked]
    return [future.result() for future in futures]
