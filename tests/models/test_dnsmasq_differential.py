"""The model against dnsmasq itself: real configurations on a real network stack, real questions.

DNSMASQ_CONFIGURATIONS random ones are tried (40), from DNSMASQ_SEED (20).
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from facts.dnsmasq_options import read_options
from models.dnsmasq import Configuration, Host, Outcome, Start, answer, configuration, starts
from tests.models.real_node import LAN, NODE, POD, Node, ask, ask_all, new_namespace


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


AS_WRITTEN = [
    "interface=late0",
    "interface=late0, late1 ,late2",
    'interface="late0,late1"',
    'interface="late0","late1"',
    'interface="late0" , late1 # late2',
    "interface='late0'",
    "interface=late0#late1",
    "interface=late0 late1",
    'interface=" late0 "',
    'interface="late0"#late1',
    'interface= "late0"#late1',
    'interface="la\\te\\"0\\\\"',
    'interface="late 0,1:2.3FabcdeABCDE6789"',
    "interface=late0,,late1,",
    "interface\t=\tlate0\r",
    "interface=late\x010",
    "interface=\u00e4",
    f"interface={'x' * 900}",
    "interface=late0\ninterface=late1",
]


def test_names_are_read_as_dnsmasq_reads_them(node: Node) -> None:
    """It names each interface that it does not find, as it has understood it."""
    found = []
    for written in AS_WRITTEN:
        content = f"bind-dynamic\n{written}\n"
        process, said = node.start(content, [])
        process.kill()
        process.communicate()
        found += compare_warnings(starts(config_of(node, content, []), node.host()), said)
    assert found == []


NAMES = [
    *("bond0", "bond0:1", "bond0*", "b*x", "lo", "lo*", "lo:vip", "*", "nosuch0"),
    *("cilium_host", "cilium_host*", "cilium_*", "*_host", "cilium_net", "lxc*", "lxc1234"),
]
ADDRESSES = [
    *("172.25.4.1", "172.25.4.10", "172.25.4.5", "172.25.4.6", "172.26.2.58", "10.9.9.9", "0.0.0.0"),
    *("127.0.0.1", "127.0.0.2", "::", "::1", "fd25::1", "fd26::58", "fe80::b0"),
]
SERVICES = ["local-service", "local-service=net", "local-service=host"]
AUTH = ["auth-server=ns.test,bond0", "auth-server=ns.test,cilium_host/6", "auth-server=ns.test,172.26.2.58"]


def random_policy(dice: random.Random) -> tuple[str, list[str], bool]:
    lines = [dice.choice([*MODES, *MODES, "bind-interfaces\nbind-dynamic"])]
    for _ in range(dice.choice([0, 1, 1, 2, 2, 3])):
        kind = dice.choice(["interface", "interface", "except-interface", "except-interface", "listen-address"])
        pool = ADDRESSES if kind == "listen-address" else NAMES
        lines.append(f"{kind}={','.join(dice.sample(pool, dice.choice([1, 1, 2])))}")
    if dice.random() < 0.3:
        lines.append(dice.choice(SERVICES))
    if dice.random() < 0.1:
        lines.append(dice.choice(AUTH))
    if dice.random() < 0.05:
        lines.append(f"port={dice.choice(['0', '5353'])}")
    arguments = ["--local-service"] if dice.random() < 0.4 and not any(line in SERVICES for line in lines) else []
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
