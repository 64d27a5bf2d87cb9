"""dnsmasq's servers by domain, as its configuration says."""

from __future__ import annotations

import pytest

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
