"""resolv.conf as libc reads it, and systemd-resolved running and stopped."""

import subprocess
from collections.abc import Callable

import pytest

from facts.resolver import PATH, ResolvConf, Resolved, read_resolv_conf, stub_listeners

Sample = Callable[[str], list[str]]


def test_resolv_conf_behind_a_link() -> None:
    lines = [
        "target /run/systemd/resolve/stub-resolv.conf",
        "# This is /run/systemd/resolve/stub-resolv.conf managed by man:systemd-resolved(8).",
        "nameserver 127.0.0.53",
        "options edns0 trust-ad",
        "search .",
    ]
    assert ResolvConf().read(lines) == {
        "path": PATH,
        "target": "/run/systemd/resolve/stub-resolv.conf",
        "nameservers": ["127.0.0.53"],
        "search": ["."],
        "options": ["edns0", "trust-ad"],
    }


def test_a_plain_resolv_conf_has_no_target() -> None:
    plain = ResolvConf().read(["target ", "nameserver 172.25.4.1"])
    assert plain is not None
    assert (plain["target"], plain["nameservers"]) == ("", ["172.25.4.1"])


def test_an_address_is_compared_with_what_the_kernel_says() -> None:
    found = read_resolv_conf("", "", ["nameserver FD25:0:0::1", "nameserver fe80::1%eth0", "nameserver no.address"])
    assert found["nameservers"] == ["fd25::1", "fe80::1%eth0", "no.address"]


def test_no_resolv_conf_is_empty() -> None:
    assert ResolvConf().reading({"output": [], "errors": [], "code": 0}) == {
        "state": "empty",
        "value": None,
        "detail": "",
    }


def test_a_link_that_leads_nowhere_has_no_name_servers() -> None:
    dangling = ResolvConf().read(["target /run/resolvconf/resolv.conf"])
    assert dangling is not None
    assert (dangling["target"], dangling["nameservers"]) == ("/run/resolvconf/resolv.conf", [])


def test_lines_that_libc_passes_over() -> None:
    lines = [
        " nameserver 1.1.1.1",
        "nameserver",
        "#nameserver 2.2.2.2",
        "; x",
        "nameserver\t3.3.3.3 # kept",
        "nameserverx 4",
    ]
    assert read_resolv_conf("", "", lines)["nameservers"] == ["3.3.3.3"]


def test_the_last_search_or_domain_counts() -> None:
    assert read_resolv_conf("", "", ["search a b", "domain c d"])["search"] == ["c"]
    assert read_resolv_conf("", "", ["domain c", "search a b"])["search"] == ["a", "b"]


def test_the_nodes_own_resolv_conf() -> None:
    fact = ResolvConf()
    answer = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    reading = fact.process(answer.stdout.splitlines())
    assert reading["state"] in ("value", "empty"), reading["detail"]


def test_resolved_running(sample: Sample) -> None:
    assert Resolved().read(sample("resolved-running.txt")) == {
        "running": True,
        "stub": "udp",
        "extra": ["172.25.4.10", "tcp:172.25.4.10:9953"],
        "servers": ["172.25.4.1", "fd25::1", "172.25.4.2:5353", "172.25.4.3#dns.example"],
        "domains": ["zju.edu.cn", "~."],
        "links": [
            {
                "interface": "bond0",
                "servers": [*(f"10.0.0.{last}" for last in range(1, 10)), "fe80::1"],
                "domains": ["clusters.zjusct.io", "~example.org"],
            }
        ],
        "uplinks": ["172.25.4.1", "fd25::1", "172.25.4.3"],
        "tls": False,
    }


def test_resolved_stopped(sample: Sample) -> None:
    assert Resolved().read(sample("resolved-stopped.txt")) == {
        "running": False,
        "stub": "udp",
        "extra": ["172.25.4.10", "tcp:172.25.4.10:9953"],
        "servers": [],
        "domains": [],
        "links": [],
        "uplinks": [],
        "tls": False,
    }


def test_what_is_set_for_a_link() -> None:
    """As systemd 252 keeps it, for networkd's links and for others."""
    lines = [
        "running",
        "set /run/systemd/netif/links/2:DNS_DEFAULT_ROUTE=no",
        "set /run/systemd/netif/links/2:DNS_OVER_TLS=opportunistic",
        "set /run/systemd/resolve/netif/9:DNSOVERTLS=yes",
        "set /run/systemd/resolve/netif/9:DEFAULT_ROUTE=yes",
        "dns Global:",
        "dns Link 2 (bond0): 10.0.0.1",
        "dns Link 9 (wg0): 10.8.0.1",
        "domain Link 9 (wg0): ~corp.example",
    ]
    state = Resolved().read(lines)
    assert state is not None
    assert state["links"] == [
        {"interface": "bond0", "servers": ["10.0.0.1"], "domains": [], "default_route": False, "tls": False},
        {
            "interface": "wg0",
            "servers": ["10.8.0.1"],
            "domains": ["~corp.example"],
            "default_route": True,
            "tls": True,
        },
    ]


@pytest.mark.parametrize(("value", "tls"), [("yes", True), ("opportunistic", False), ("no", False)])
def test_tls_for_all_links(value: str, tls: bool) -> None:
    state = Resolved().read(["file /etc/systemd/resolved.conf", " [Resolve]", f" DNSOverTLS={value}"])
    assert state is not None and state.get("tls") == tls


def test_a_list_of_servers_that_goes_on_in_the_next_line() -> None:
    state = Resolved().read(["running", "dns Global: 10.0.0.1", "dns Link 3 (bond0): 10.0.0.2", "dns         10.0.0.3"])
    assert state is not None
    assert state["servers"] == ["10.0.0.1"]
    assert state["links"] == [{"interface": "bond0", "servers": ["10.0.0.2", "10.0.0.3"], "domains": []}]


@pytest.mark.parametrize(
    ("value", "stub"),
    [("yes", "yes"), ("true", "yes"), ("No", "no"), ("0", "no"), ("tcp", "tcp"), ("udp", "udp"), ("sometimes", "yes")],
)
def test_the_words_for_a_stub(value: str, stub: str) -> None:
    files = {"/etc/systemd/resolved.conf": ["[Resolve]", f"DNSStubListener={value}"]}
    assert stub_listeners(files) == (stub, [])


def test_the_stub_is_on_where_no_file_says_otherwise() -> None:
    assert stub_listeners({}) == ("yes", [])
    assert stub_listeners({"/etc/systemd/resolved.conf": ["[Resolve]", "#DNSStubListener=no"]}) == ("yes", [])
    assert stub_listeners({"/etc/systemd/resolved.conf": ["[Other]", "DNSStubListener=no"]}) == ("yes", [])


def test_drop_ins_go_by_name_over_the_main_file_and_hide_their_namesakes() -> None:
    files = {
        "/etc/systemd/resolved.conf": ["[Resolve]", "DNSStubListener=no"],
        "/etc/systemd/resolved.conf.d/10.conf": ["[Resolve]", "DNSStubListenerExtra=1.1.1.1"],
        "/usr/lib/systemd/resolved.conf.d/10.conf": ["[Resolve]", "DNSStubListener=tcp"],
        "/usr/lib/systemd/resolved.conf.d/20.conf": ["[Resolve]", "DNSStubListener=udp"],
        "/usr/lib/systemd/resolved.conf": ["[Resolve]", "DNSStubListenerExtra=9.9.9.9"],
    }
    assert stub_listeners(files) == ("udp", ["1.1.1.1"])


def test_an_empty_extra_listener_clears_the_list() -> None:
    files = {"/etc/systemd/resolved.conf": ["[Resolve]", "DNSStubListenerExtra=1.1.1.1", "DNSStubListenerExtra="]}
    assert stub_listeners(files) == ("yes", [])


def test_a_line_that_is_not_understood_is_a_failure() -> None:
    reading = Resolved().reading({"output": ["surprise"], "errors": [], "code": 0})
    assert (reading["state"], reading["value"]) == ("failed", None)
