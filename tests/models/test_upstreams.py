"""dnsmasq's servers by domain, as its configuration says."""

from __future__ import annotations

import pytest

from facts.addresses import usable
from facts.snapshot import Snapshot
from models import upstreams
from models.upstreams import Upstream
from tests.models import fleets
from tests.models.fleets import option


def servers(*options: tuple[str, str | None]) -> list[tuple[str, str, int]]:
    node = fleets.recorded()["node-0"]
    fleets.set_upstreams(node, *(option(name, value) for name, value in options))
    (instance,) = node["dnsmasq"]["value"]["instances"]
    return [(one.domain, one.address, one.port) for one in upstreams.of_dnsmasq(instance, node)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("10.0.0.1", [("", "10.0.0.1", 53)]),
        ("10.0.0.1#5353", [("", "10.0.0.1", 5353)]),
        ("10.0.0.1#5353@eth0", [("", "10.0.0.1", 5353)]),
        ("10.0.0.1@10.0.0.9#4000", [("", "10.0.0.1", 53)]),
        ("fd00::1", [("", "fd00::1", 53)]),
        ("FD00:0::1", [("", "fd00::1", 53)]),
        ("fe80::1%eth0", []),
        ("/Zju.edu.cn/10.0.0.1", [("zju.edu.cn", "10.0.0.1", 53)]),
        ("/a.example/.b.example/10.0.0.1", [("a.example", "10.0.0.1", 53), ("b.example", "10.0.0.1", 53)]),
        ("/#/10.0.0.1", [("", "10.0.0.1", 53)]),
        ("//10.0.0.1", []),
        ("/local.example/", []),
        ("/usual.example/#", []),
        ("resolver.example", []),
        ("10.0.0.1#70000", []),
    ],
)
def test_server(value: str, found: list[tuple[str, str, int]]) -> None:
    assert servers(("no-resolv", None), ("server", value)) == found


def test_local_is_server_by_another_name() -> None:
    assert servers(("no-resolv", None), ("local", "/a.example/10.0.0.1")) == [("a.example", "10.0.0.1", 53)]


def test_without_no_resolv_the_resolv_conf_counts() -> None:
    assert servers(("server", "10.0.0.1")) == [("", "10.0.0.1", 53), ("", "127.0.0.53", 53)]
    assert servers(("resolv-file", upstreams.UPLINKS)) == [("", "172.25.4.1", 53)]
    assert servers(("resolv-file", upstreams.STUB)) == [("", "127.0.0.53", 53)]
    assert servers(("resolv-file", "/run/dnsmasq/resolv.conf")) == []


def test_the_longest_domain_is_chosen() -> None:
    made = [
        Upstream(domain, f"10.0.0.{number}", 53, "") for number, domain in enumerate(["", "cn", "edu.cn", "edu.cn"])
    ]
    assert [one.address for one in upstreams.chosen(made, "zju.edu.cn")] == ["10.0.0.2", "10.0.0.3"]
    assert [one.address for one in upstreams.chosen(made, "example.com")] == ["10.0.0.0"]
    assert [one.address for one in upstreams.chosen(made, "notedu.cn")] == ["10.0.0.1"]
    assert upstreams.chosen(made[1:], "example.com") == []


def test_the_line_is_named() -> None:
    node = fleets.recorded()["node-0"]
    (instance,) = node["dnsmasq"]["value"]["instances"]
    assert [one.because for one in upstreams.of_dnsmasq(instance, node)] == [
        f"server=/clusters.zjusct.io/172.28.0.2 ({fleets.FILE}:4)",
        f"server=/zju.edu.cn/10.10.0.21 ({fleets.FILE}:5)",
        f"server=192.18.0.2 ({fleets.FILE}:6)",
    ]


Scope = tuple[str, list[str], list[str]]


def resolved(
    *links: Scope, servers: tuple[str, ...] = (), domains: tuple[str, ...] = (), tls: bool = False
) -> Snapshot:
    """node-0, whose systemd-resolved has these links with their servers and domains."""
    node = fleets.recorded()["node-0"]
    state = node["resolved"]["value"]
    assert state is not None
    state["servers"], state["domains"] = list(servers), list(domains)
    state["links"] = [{"interface": name, "servers": asked, "domains": named} for name, asked, named in links]
    every = [*servers, *(server for _, asked, _ in links for server in asked)]
    state["uplinks"] = [server for server in every if usable(server)]
    state["tls"] = tls
    return node


def asked(node: Snapshot) -> dict[str, list[str]]:
    """Whom systemd-resolved asks, by domain."""
    found: dict[str, list[str]] = {}
    for one in upstreams.of_resolved(node):
        found.setdefault(one.domain, []).append(f"{one.address}:{one.port}" if one.port != 53 else one.address)
    return found


LAN: Scope = ("bond0", ["10.0.0.2"], ["example.com"])
VPN: Scope = ("wg0", ["10.8.0.1"], ["~corp.example", "in.example"])


def test_a_link_that_only_routes_some_domains_is_asked_for_these() -> None:
    routed = {"corp.example": ["10.8.0.1"], "in.example": ["10.8.0.1"]}
    assert asked(resolved(LAN, VPN)) == {"": ["10.0.0.2"], **routed}
    assert asked(resolved(LAN, VPN, servers=("10.0.0.1",))) == {"": ["10.0.0.1", "10.0.0.2"], **routed}
    # "~." takes all other names away from those that have it not; a search domain still is a link's own.
    whole = resolved(LAN, VPN, servers=("10.0.0.1",), domains=("~.",))
    assert asked(whole) == {"": ["10.0.0.1"], "example.com": ["10.0.0.2"], **routed}
    assert asked(resolved(LAN, ("wg0", ["10.8.0.1"], ["~."]))) == {"": ["10.8.0.1"], "example.com": ["10.0.0.2"]}


@pytest.mark.parametrize(("link", "said", "general"), [(0, False, []), (1, True, ["10.0.0.2", "10.8.0.1"])])
def test_what_dns_default_route_says_comes_first(link: int, said: bool, general: list[str]) -> None:
    node = resolved(LAN, VPN)
    assert node["resolved"]["value"]
    node["resolved"]["value"]["links"][link]["default_route"] = said
    assert asked(node).get("", []) == general
    assert asked(node)["corp.example"] == ["10.8.0.1"]


def test_what_is_asked_over_tls_is_not_asked_on_port_53() -> None:
    assert asked(resolved(LAN, VPN, servers=("10.0.0.1",), tls=True)) == {}
    node = resolved(LAN, VPN)
    assert node["resolved"]["value"]
    node["resolved"]["value"]["links"][1]["tls"] = True
    assert asked(node) == {"": ["10.0.0.2"]}
    # Who reads its file asks them all, on port 53.
    node = resolved(LAN, VPN, tls=True)
    fleets.set_upstreams(node, option("resolv-file", upstreams.UPLINKS))
    (instance,) = node["dnsmasq"]["value"]["instances"]
    assert [one.address for one in upstreams.of_dnsmasq(instance, node)] == ["10.0.0.2", "10.8.0.1"]


def test_the_servers_of_links_that_are_not_known() -> None:
    node = resolved()
    assert node["resolved"]["value"]
    node["resolved"]["value"]["uplinks"] = ["10.0.0.2", "fe80::1%2", "10.8.0.1"]
    assert asked(node) == {"": ["10.0.0.2", "10.8.0.1"]}


def test_the_forms_of_a_server() -> None:
    servers = ["10.0.0.1#dns.example", "10.0.0.2:5353", "[fd00::1]:5353#x", "fd00::2", "fe80::1", "169.254.20.10", "x"]
    assert asked(resolved(("bond0", servers, []))) == {
        "": ["10.0.0.1", "10.0.0.2:5353", "fd00::1:5353", "fd00::2", "169.254.20.10"]
    }
