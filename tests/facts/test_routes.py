"""Routes: the main table as recorded, which of them is taken, and the kernel's own answers."""

import subprocess
from collections.abc import Callable

import pytest
from pyinfra.api.exceptions import FactValueError

from facts.reading import Reading
from facts.routes import Route, Routes, RouteTo, RoutingTables, outgoing

Sample = Callable[[str], list[str]]


@pytest.fixture
def tables(sample: Sample) -> RoutingTables:
    read = Routes().read(sample("routes.txt"))
    assert read is not None
    return read


def route_to(address: str, pid: int) -> Reading[Route | None]:
    fact = RouteTo()
    command = ["nsenter", "-t", str(pid), "-n", "sh", "-c", fact.command(address)]
    return fact.process(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def hop(destination: str, gateway: str, interface: str, **more: object) -> dict[str, object]:
    plain = {"family": 4, "source": "", "metric": 0, "type": "unicast", "flags": []}
    return plain | {"destination": destination, "gateway": gateway, "interface": interface} | more


def test_the_main_table(tables: RoutingTables) -> None:
    assert [dict(route) for route in tables["main"] if route["family"] == 4] == [
        hop("0.0.0.0/0", "172.25.4.254", "bond0"),
        hop("10.50.0.0/16", "172.25.4.11", "bond0"),
        hop("10.50.0.0/16", "172.25.4.12", "bond0"),
        hop("10.51.0.0/16", "fe80::99", "bond0"),
        hop("10.52.0.0/16", "", "", metric=4278198272, type="unreachable"),
        hop("10.53.0.0/24", "172.25.4.11", "bond0", metric=50),
        hop("10.53.0.0/24", "172.25.4.12", "bond0", metric=100),
        hop("10.99.0.2/32", "", "lanpeer", source="10.99.0.1"),
        hop("172.25.4.0/24", "", "bond0", source="172.25.4.10"),
        hop("172.26.2.0/24", "172.26.2.58", "cilium_host", source="172.26.2.58"),
        hop("172.26.3.0/24", "172.25.4.11", "bond0"),
    ]
    assert [r["destination"] for r in tables["main"] if r["family"] == 6] == ["fd25::/64", *["fe80::/64"] * 5, "::/0"]


def test_the_rules(tables: RoutingTables) -> None:
    assert [(r["family"], r["priority"], r["selector"], r["table"]) for r in tables["rules"]] == [
        (4, 0, "", "local"),
        (4, 7, "dst 1.2.3.4 iif bond0 action prohibit", ""),
        (4, 8, "src 10.0.0.0 srclen 8", "100"),
        (4, 9, "fwmark 0x200 fwmask 0xf00", "2004"),
        (4, 32766, "", "main"),
        (4, 32767, "", "default"),
        (6, 0, "", "local"),
        (6, 32766, "", "main"),
    ]


@pytest.mark.parametrize(
    ("address", "gateway", "interface"),
    [
        ("172.26.2.145", "172.26.2.58", "cilium_host"),
        ("172.26.3.9", "172.25.4.11", "bond0"),
        ("172.25.4.9", "", "bond0"),
        ("8.8.8.8", "172.25.4.254", "bond0"),
        ("10.53.0.9", "172.25.4.11", "bond0"),
        ("fd99::1", "fd25::fe", "bond0"),
    ],
)
def test_the_longest_prefix_then_the_lowest_metric(
    tables: RoutingTables, address: str, gateway: str, interface: str
) -> None:
    route = outgoing(tables["main"], address)
    assert route is not None
    assert (route["gateway"], route["interface"]) == (gateway, interface)


def test_an_unreachable_route_is_a_route(tables: RoutingTables) -> None:
    route = outgoing(tables["main"], "10.52.0.1")
    assert route is not None
    assert route["type"] == "unreachable"


def test_no_route(tables: RoutingTables) -> None:
    without_default = [route for route in tables["main"] if not route["destination"].endswith("/0")]
    assert outgoing(without_default, "8.8.8.8") is None


def test_a_dead_route_is_not_taken(tables: RoutingTables) -> None:
    dead = [{**route, "flags": ["dead", "linkdown"]} if route["metric"] == 50 else route for route in tables["main"]]
    route = outgoing(dead, "10.53.0.9")  # type: ignore[arg-type]  # a copy of a TypedDict by unpacking
    assert route is not None
    assert route["gateway"] == "172.25.4.12"


NODE = """
ip link add bond0 type veth peer name lan
ip link set lan up; ip link set bond0 up
ip addr add 172.25.4.10/24 dev bond0; ip addr add 172.25.4.1/24 dev bond0
ip link add cilium_host type veth peer name cilium_net
ip link set cilium_net up; ip link set cilium_host up
ip addr add 172.26.2.58/32 dev cilium_host
ip route add 172.26.2.0/24 via 172.26.2.58 dev cilium_host src 172.26.2.58
ip route add prohibit 10.1.0.0/16; ip route add unreachable 10.2.0.0/16; ip route add blackhole 10.3.0.0/16
ip route add 172.26.9.0/24 via 172.25.4.12 table 100; ip rule add to 172.26.9.0/24 lookup 100
"""


def test_what_the_kernel_answers(namespace: Callable[[str], int]) -> None:
    pid = namespace(NODE)
    pod = route_to("172.26.2.145", pid)
    assert (pod["state"], pod["detail"]) == ("value", "")
    assert pod["value"] == hop("172.26.2.145/32", "", "cilium_host", source="172.26.2.58")
    own = route_to("172.25.4.1", pid)["value"]
    assert own is not None
    assert (own["type"], own["interface"]) == ("local", "lo")


def test_a_rule_that_the_main_table_does_not_show(namespace: Callable[[str], int]) -> None:
    route = route_to("172.26.9.7", namespace(NODE))["value"]
    assert route is not None
    assert (route["gateway"], route["interface"]) == ("172.25.4.12", "bond0")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("8.8.8.8", "Network is unreachable"),
        ("10.1.0.1", "prohibited"),
        ("10.2.0.1", "No route to host"),
        ("10.3.0.1", "Invalid argument"),
    ],
)
def test_no_way_is_an_empty_answer_in_the_kernels_words(
    namespace: Callable[[str], int], address: str, words: str
) -> None:
    reading = route_to(address, namespace(NODE))
    assert (reading["state"], reading["value"]) == ("empty", None)
    assert reading["detail"] == f"RTNETLINK answers: {words}"


@pytest.mark.parametrize("address", ["", "x; reboot", "172.25.4.1/24", "172.25.4.1 dev lo", "fe80::1%$(reboot)"])
def test_nothing_but_an_address_reaches_the_shell(address: str) -> None:
    with pytest.raises(FactValueError):
        RouteTo().command(address)


def test_the_main_table_of_a_real_namespace(namespace: Callable[[str], int]) -> None:
    fact = Routes()
    command = ["nsenter", "-t", str(namespace(NODE)), "-n", "sh", "-c", fact.command()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert (reading["state"], reading["detail"]) == ("value", "")
    assert reading["value"] is not None
    route = outgoing(reading["value"]["main"], "172.26.2.145")
    assert route is not None
    assert route["interface"] == "cilium_host"
