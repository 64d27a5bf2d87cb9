"""The model against dnsmasq itself: a node of network namespaces, real configurations, real questions.

Needs root, iproute2, util-linux and dnsmasq. Everything lives in namespaces held by processes that die with this one.
"""

import ctypes
import itertools
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from facts.dnsmasq_options import read_options
from models.dnsmasq import (
    Address,
    Configuration,
    Host,
    Listener,
    Outcome,
    Query,
    Start,
    answer,
    configuration,
    starts,
)

NAME = "probe.test"
QUESTION = (
    struct.pack("!6H", 0x4D4E, 0x0100, 1, 0, 0, 0) + b"\x05probe\x04test\x00" + struct.pack("!2H", 1, 1)
)
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
ip route add 172.26.2.145/32 dev cilium_host src 172.26.2.58
ip route add fd26::145/128 dev cilium_host
ip route add 172.26.2.146/32 dev lxc1234 src 172.26.2.58
ip route add fd26::146/128 dev lxc1234
ip route add 172.26.9.0/24 via 172.25.4.9
"""
LAN = """
ip link set lo up; ip link set eth0 up; ip link set unused up
ip addr add 172.25.4.9/24 dev eth0; ip addr add fd25::9/64 dev eth0 nodad
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
        with open(f"/proc/{self.holder.pid}/ns/net") as namespace:
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
        targets = {4: ["172.25.4.1", "172.25.4.10", "172.26.2.58"], 6: ["fd25::1", "fd26::58"]}
        for version, protocol in itertools.product((4, 6), ("udp", "tcp")):
            for target in targets[version]:
                for namespace, source, arrival in self.sources(version):
                    query = Query.of(source, target, protocol, arrival)
                    known = ip_address(routes[source]) if source in routes else None
                    asked.append((namespace, replace(query, reply_from=known)))
            for target in [*targets[version], "127.0.0.1" if version == 4 else "::1"]:
                asked.append((self.node, Query.from_host(host, target, protocol)))
        return asked

    def hold_port(self) -> list[socket.socket]:
        """Takes port 53 the way systemd-resolved does."""

        def bind() -> list[socket.socket]:
            held = []
            for ip, kind in itertools.product(
                ("127.0.0.53", "127.0.0.54"), (socket.SOCK_DGRAM, socket.SOCK_STREAM)
            ):
                one = socket.socket(socket.AF_INET, kind)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
                one.bind((ip, 53))
                if kind == socket.SOCK_STREAM:
                    one.listen()
                held.append(one)
            return held

        return self.node.threads.submit(bind).result()

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


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    dnsmasq = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not dnsmasq:
        pytest.fail("dnsmasq is not installed: apt-get install dnsmasq-base")
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    spaces = [new_namespace() for _ in range(4)]
    inside, lan, pod, endpoint = spaces
    try:
        pids = {"lan": lan.holder.pid, "pod": pod.holder.pid, "endpoint": endpoint.holder.pid}
        inside.run(NODE.format(**pids))
        lan.run(LAN)
        pod.run(POD.format(last=145, gateway="fe80::c2"))
        endpoint.run(POD.format(last=146, gateway="fe80::1c"))
        yield Node(dnsmasq, tmp_path_factory.mktemp("dnsmasq"), *spaces)
    finally:
        for space in spaces:
            space.close()


def ask(query: Query, patience: float = PATIENCE) -> str:
    """Asks from the thread's namespace; what came of it, in the words of `Outcome`."""
    family = socket.AF_INET if query.destination.version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if query.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as sending:
        sending.settimeout(patience)
        try:
            sending.bind((str(query.source), 0))
            sending.connect((str(query.destination), query.port))
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


def config_of(node: Node, content: str, arguments: list[str]) -> Configuration:
    path = str(node.directory / "policy.conf")
    sent = {path: {"path": path, "kind": "file", "content": content, "entries": []}}
    options, _ = read_options(["dnsmasq", *arguments, "-C", path], sent)  # type: ignore[arg-type]
    return configuration(options)


def differences(
    node: Node,
    content: str,
    arguments: list[str] | None = None,
    held: bool = False,
    change: Callable[[], object] | None = None,
) -> list[str]:
    """Where model and dnsmasq differ for one configuration.

    + held: port 53 of 127.0.0.53 and 127.0.0.54 is taken
    + change: done to the node once dnsmasq runs
    """
    arguments = arguments or []
    at_start = node.host(held)
    config = config_of(node, content, arguments)
    start = starts(config, at_start)
    holding = node.hold_port() if held else []
    process, said = node.start(content, arguments)
    found: list[str] = []
    try:
        really = any("started, version" in line for line in said)
        if really != start.started:
            found.append(f"start: {start} but dnsmasq said {said}")
        elif not really:
            found += compare_failure(start, process.wait(5), said)
        else:
            if config.port:
                found += compare_warnings(start, said)
            started = None
            if change:
                change()
                started = start
                # A new address reaches dnsmasq over netlink.
                time.sleep(0.3)
            else:
                shown, predicted = node.listening(), sorted(map(str, start.sockets))
                if shown != predicted:
                    found.append(f"listeners: predicted {predicted} but ss shows {shown}")
            found += compare_answers(node, config, node.host(held), started)
    finally:
        process.kill()
        process.communicate()
        for one in holding:
            one.close()
    return [f"{content.split()} {arguments}: {text}" for text in found]


def compare_failure(start: Start, code: int, said: list[str]) -> list[str]:
    message = start.because.split(" by ")[0].split(" (")[0].split(": /")[0]
    known = said[-1] if said else ""
    same = known.split(": ")[0] == message.split(": ")[0]
    return [] if code == start.code and same else [f"exit {code}, {known!r} but predicted {start}"]


def compare_warnings(start: Start, said: list[str]) -> list[str]:
    kinds = ("LOUD WARNING: listening", "warning: interface", "warning: using interface")
    real = sorted({line for line in said if any(kind in line for kind in kinds)})
    predicted = sorted(set(start.warnings))
    return [] if real == predicted else [f"warnings: predicted {predicted} but dnsmasq said {real}"]


def compare_answers(node: Node, config: Configuration, host: Host, started: Start | None) -> list[str]:
    asked = node.queries(host)
    predicted = [answer(config, host, query, started) for _, query in asked]
    real = ask_all(asked)
    found = []
    for (space, query), verdict, outcome in zip(asked, predicted, real, strict=True):
        if outcome != verdict.outcome and outcome == Outcome.TIMEOUT:
            # A busy machine may be late once.
            outcome = space.threads.submit(ask, query, 2.0).result()
        if outcome != verdict.outcome:
            found.append(f"{query}: predicted {verdict} but got {outcome}")
    return found


MODES = ["", "bind-interfaces", "bind-dynamic"]

BY_HAND = [
    "",
    "except-interface=cilium_*",
    "except-interface=lo",
    "interface=bond0",
    "interface=bond0,cilium_host",
    "interface=bond0,cilium_host,lxc1234",
    "interface=bond0:1",
    "interface=bond0\nlisten-address=172.25.4.1",
    "listen-address=172.25.4.1",
    "listen-address=172.25.4.1\nexcept-interface=bond0",
    "listen-address=172.25.4.1\nexcept-interface=*",
    "listen-address=0.0.0.0",
    "listen-address=::",
    "listen-address=fe80::b0",
    "listen-address=127.0.0.2",
    "interface=lo\nexcept-interface=lo",
    "interface=",
    "except-interface=",
    "except-interface=vxlan*",
    "local-service=host",
    "local-service=host\nexcept-interface=lo",
    "local-service=net",
    'interface="bond0,cilium_host"\nexcept-interface=lxc*',
    "auth-server=ns.test,bond0",
    "auth-server=ns.test,172.25.4.1/4\ninterface=cilium_host",
    "auth-server=ns.test,cilium_host/4\nexcept-interface=cilium_host",
    "auth-server=ns.test",
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode or "wildcard")
def test_configurations_of_the_field(node: Node, mode: str) -> None:
    found = []
    for policy in BY_HAND:
        found += differences(node, f"{mode}\n{policy}\n")
    assert found == []


NAMES = "bond0 bond0:1 bond0* cilium_host cilium_* cilium_net cilium_host* lxc* lxc1234 lo lo* * *_host nosuch0 b*x".split()
ADDRESSES = "172.25.4.1 172.25.4.10 172.26.2.58 127.0.0.1 127.0.0.2 0.0.0.0 :: ::1 fd25::1 fd26::58 fe80::b0 10.9.9.9".split()
SERVICES = ["local-service", "local-service=net", "local-service=host"]
AUTH = ["auth-server=ns.test,bond0", "auth-server=ns.test,cilium_host/6", "auth-server=ns.test,172.26.2.58"]


def random_policy(dice: random.Random) -> tuple[str, list[str], bool]:
    lines = [dice.choice([*MODES, *MODES, "bind-interfaces\nbind-dynamic"])]
    for _ in range(dice.choice([0, 1, 1, 2, 2, 3])):
        kind = dice.choice(
            ["interface", "interface", "except-interface", "except-interface", "listen-address"]
        )
        pool = ADDRESSES if kind == "listen-address" else NAMES
        lines.append(f"{kind}={','.join(dice.sample(pool, dice.choice([1, 1, 2])))}")
    if dice.random() < 0.3:
        lines.append(dice.choice(SERVICES))
    if dice.random() < 0.1:
        lines.append(dice.choice(AUTH))
    if dice.random() < 0.05:
        lines.append(f"port={dice.choice(['0', '5353'])}")
    arguments = (
        ["--local-service"] if dice.random() < 0.4 and not any(line in SERVICES for line in lines) else []
    )
    return "\n".join(lines) + "\n", arguments, dice.random() < 0.2


def test_random_configurations(node: Node) -> None:
    dice = random.Random(int(os.environ.get("DNSMASQ_SEED", "20")))
    found = []
    for _ in range(int(os.environ.get("DNSMASQ_CONFIGURATIONS", "40"))):
        content, arguments, held = random_policy(dice)
        found += differences(node, content, arguments, held)
    assert found == []


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode or "wildcard")
@pytest.mark.parametrize("policy", ["", "interface=bond0,late0", "except-interface=lo"])
def test_an_interface_that_comes_after_the_start(node: Node, mode: str, policy: str) -> None:
    come = "ip link add late0 type veth peer name late1 && ip addr add 172.25.4.77/32 dev late0 && ip link set late0 up"
    try:
        found = differences(node, f"{mode}\n{policy}\n", change=lambda: node.node.run(come))
    finally:
        node.node.run("ip link del late0 2>/dev/null || true")
    assert found == []


@pytest.mark.parametrize("nonlocal_bind", [False, True])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode or "wildcard")
@pytest.mark.parametrize("policy", ["except-interface=lo", "listen-address=172.25.4.1"])
def test_a_vip_that_comes_after_the_start(node: Node, mode: str, policy: str, nonlocal_bind: bool) -> None:
    node.node.run(
        f"ip addr del 172.25.4.1/24 dev bond0; echo {int(nonlocal_bind)} > /proc/sys/net/ipv4/ip_nonlocal_bind"
    )
    come = "ip addr add 172.25.4.1/24 dev bond0 label bond0:1"
    try:
        found = differences(node, f"{mode}\n{policy}\n", change=lambda: node.node.run(come))
    finally:
        node.node.run(f"echo 0 > /proc/sys/net/ipv4/ip_nonlocal_bind; {come} 2>/dev/null || true")
    assert found == []


def test_everything_asked_is_of_this_host(node: Node) -> None:
    """The shape that the other tests rely on: labels, an interface without IPv4, a /32."""
    host = node.host()
    assert [(one.interface, one.label) for one in host.addresses if str(one.ip.ip) == "172.25.4.1"] == [
        ("bond0", "bond0:1")
    ]
    assert [one.ip.version for one in host.addresses if one.interface == "lxc1234"] == [6]
    assert host.arrival(ip_address("172.25.4.1")) == "bond0"
    assert len(node.queries(host)) > 40
