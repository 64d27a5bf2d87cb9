"""Each rule of the model on its own, and the option that it blames."""

from dataclasses import replace

import pytest

from facts.dnsmasq_options import Option, read_options
from models.dnsmasq import (
    Address,
    Binding,
    Configuration,
    Host,
    Listener,
    Outcome,
    Query,
    Verdict,
    answer,
    configuration,
    starts,
)
from models.dnsmasq_config import Name

POLICY = "/etc/dnsmasq.d/policy.conf"
NODE = Host(
    interfaces=frozenset({"lo", "bond0", "cilium_net", "cilium_host", "lxc1234"}),
    addresses=(
        Address.of("lo", "127.0.0.1/8"),
        Address.of("lo", "::1/128"),
        Address.of("bond0", "172.25.4.10/24"),
        Address.of("bond0", "172.25.4.1/24", "bond0:1"),
        Address.of("bond0", "fd25::1/64"),
        Address.of("bond0", "fe80::b0/64"),
        Address.of("cilium_host", "172.26.2.58/32"),
        Address.of("cilium_host", "fd26::58/128"),
        Address.of("lxc1234", "fe80::1c/64"),
    ),
)
RESOLVED = tuple(
    Listener.of(protocol, ip, 53, "lo", "systemd-resolve")
    for ip in ("127.0.0.53", "127.0.0.54")
    for protocol in ("udp", "tcp")
)
VIP = "172.25.4.1"
POD, LAN = ("172.26.2.145", "cilium_host"), ("172.25.4.9", "bond0")
MODES = ["", "bind-interfaces", "bind-dynamic"]


def options(*lines: str, arguments: str = "") -> list[Option]:
    content = "\n".join(lines)
    sent = {POLICY: {"path": POLICY, "kind": "file", "content": content, "entries": []}}
    return read_options(["dnsmasq", *arguments.split(), "-C", POLICY], sent)[0]  # type: ignore[arg-type]


def config(*lines: str, arguments: str = "") -> Configuration:
    return configuration(options(*lines, arguments=arguments))


def ask(
    settings: Configuration, who: tuple[str, str], to: str = VIP, protocol: str = "udp", host: Host = NODE
) -> Verdict:
    return answer(settings, host, Query.of(who[0], to, protocol, who[1]))


def both(settings: Configuration, who: tuple[str, str], to: str = VIP, host: Host = NODE) -> str:
    """Outcome over UDP and TCP as the letters of the knowledge: Y answered, t timeout, c closed, R refused, - not."""
    letters = {"answered": "Y", "timeout": "t", "closed": "c", "conn-refused": "R", "not-started": "-"}
    return "".join(letters[ask(settings, who, to, protocol, host).outcome] for protocol in ("udp", "tcp"))


def place(option: Option | None) -> tuple[str, str, int] | None:
    return option and (option["name"], option["file"], option["line"])


def without(given: list[Option], name: str) -> list[Option]:
    return [option for option in given if option["name"] != name]


# --- the incident, and what does not mend it -----------------------------------------------------------------------


def test_the_incident_names_the_line_and_the_rule() -> None:
    settings = config("# pods", "", "except-interface=cilium_*")
    for protocol, outcome in {"udp": Outcome.TIMEOUT, "tcp": Outcome.CLOSED}.items():
        verdict = ask(settings, POD, protocol=protocol)
        assert verdict.outcome is outcome
        assert place(verdict.culprit) == ("except-interface", POLICY, 3)
        assert verdict.because == (
            f"The query arrives on cilium_host, which is excluded by except-interface=cilium_* ({POLICY}:3)."
        )
    assert both(settings, LAN) == "YY"


def test_deleting_the_last_except_interface_switches_local_service_on() -> None:
    given = options("except-interface=cilium_*", arguments="--local-service")
    assert both(configuration(given), POD) == "tc"
    verdict = ask(configuration(without(given, "except-interface")), POD)
    assert verdict.outcome is Outcome.TIMEOUT
    assert place(verdict.culprit) == ("local-service", "", 0)
    assert "there is no interface, except-interface, listen-address or auth-server" in verdict.because


@pytest.mark.parametrize("line", ["except-interface=lo", "except-interface=vxlan*", "except-interface=", "interface=*"])
def test_any_access_control_turns_local_service_off(line: str) -> None:
    assert both(config(line, arguments="--local-service"), POD) == "YY"


def test_local_service_goes_by_prefixes_and_stays_on_for_other_options() -> None:
    settings = config("no-dhcp-interface=cilium_*", "server=1.2.3.4", arguments="--local-service")
    assert (both(settings, POD), both(settings, LAN), both(settings, ("127.0.0.1", "lo"), "127.0.0.1")) == (
        "tc",
        "YY",
        "YY",
    )


def test_bind_interfaces_does_not_look_at_the_arrival_of_ipv4_and_of_tcp() -> None:
    settings = config("bind-interfaces", "except-interface=cilium_*")
    assert both(settings, POD) == "YY"
    assert both(settings, POD, "172.26.2.58") == "RR"
    assert both(settings, ("fd26::145", "cilium_host"), "fd25::1") == "tY"


def test_bind_dynamic_with_except_interface_left_in_place_fixes_nothing() -> None:
    assert both(config("bind-dynamic", "except-interface=cilium_*"), POD) == "tc"


@pytest.mark.parametrize(("mode", "expected"), [("", "Yc"), ("bind-dynamic", "Yc"), ("bind-interfaces", "YY")])
def test_endpoint_routes_have_no_address_on_the_arrival_interface(mode: str, expected: str) -> None:
    settings = config(mode, "except-interface=lo")
    assert both(settings, ("172.26.2.145", "lxc1234")) == expected
    verdict = ask(settings, ("172.26.2.145", "lxc1234"), protocol="tcp")
    if expected == "Yc":
        assert "lxc1234, which has no IPv4 address" in verdict.because
        assert place(verdict.culprit) == (("bind-dynamic", POLICY, 1) if mode else None)


def test_an_interface_that_is_not_listed_is_blamed_before_its_missing_address() -> None:
    verdict = ask(config("interface=bond0"), ("172.26.2.145", "lxc1234"), protocol="tcp")
    assert place(verdict.culprit) == ("interface", POLICY, 1)


def test_listen_address_beats_except_interface() -> None:
    settings = config("listen-address=172.25.4.1", "except-interface=cilium_*")
    assert both(settings, POD) == "Yc"
    assert both(settings, LAN) == "YY"


@pytest.mark.parametrize("mode", MODES)
def test_interface_and_except_of_lo_answers_nobody(mode: str) -> None:
    settings = config(mode, "interface=lo", "except-interface=lo")
    for who, to in ((POD, VIP), (LAN, VIP), (("127.0.0.1", "lo"), "127.0.0.1")):
        assert "Y" not in both(settings, who, to)


def test_local_service_host_with_except_lo_answers_everyone() -> None:
    assert both(config("local-service=host", "except-interface=lo"), POD) == "YY"


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("cilium_host", "cilium_host", True),
        ("cilium_*", "cilium_host", True),
        ("cilium_host*", "cilium_host", False),
        ("cilium*host", "cilium_net", True),
        ("*_host", "lo", True),
        ("*", "lo", True),
        ("Cilium_*", "cilium_host", False),
        ("cilium_hos?", "cilium_host", False),
        ("cilium_host", "cilium_host2", False),
        ("", "lo", False),
        ("", "", False),
    ],
)
def test_name_patterns(pattern: str, name: str, matches: bool) -> None:
    option: Option = {"name": "interface", "value": pattern, "file": "", "line": 0}
    assert Name(pattern, option).matches(name) is matches


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("interface=bond0,cilium_host", "YY"),
        ("interface = bond0 , cilium_host", "YY"),
        ('interface="bond0","cilium_host"', "YY"),
        ('interface="bond0,cilium_host"', "tc"),
        ("interface='bond0','cilium_host'", "tc"),
        ("interface=bond0,cilium_host#x", "tc"),
        ("interface=bond0,cilium_host # x", "YY"),
    ],
)
def test_names_as_written(line: str, expected: str) -> None:
    assert both(config(line), POD, "172.25.4.10") == expected


def test_a_label_names_an_address_and_the_arrival_is_excepted_from_it() -> None:
    settings = config("interface=bond0:1")
    assert both(settings, LAN) == "YY"
    assert ask(settings, LAN, "172.25.4.10").outcome is Outcome.TIMEOUT
    # Over TCP to the wildcard the record of the address counts, and its label is not bond0.
    assert both(config("interface=bond0"), LAN) == "Yc"
    assert both(config("interface=bond0"), LAN, "172.25.4.10") == "YY"


def test_ipv6_addresses_have_no_label() -> None:
    assert both(config("interface=bond0:1"), ("fd25::9", "bond0"), "fd25::1") == "tc"
    assert both(config("interface=bond0"), ("fd25::9", "bond0"), "fd25::1") == "YY"


def test_loopback_is_served_beside_named_interfaces_unless_excluded() -> None:
    local = ("127.0.0.1", "lo")
    assert both(config("interface=bond0"), local, "127.0.0.1") == "YY"
    assert both(config("interface=bond0", "except-interface=lo"), local, "127.0.0.1") == "tc"
    assert both(config("listen-address=172.25.4.1"), local, "127.0.0.1") == "tc"
    # What the kernel reports as arriving over loopback is taken for any address that is served.
    assert both(config("except-interface=lo"), (VIP, "lo"), VIP) == "YY"
    assert both(config("except-interface=lo,bond0:1"), (VIP, "lo"), VIP) == "tc"


def test_not_listed_says_what_is() -> None:
    verdict = ask(config("interface=bond0", "interface=lo"), POD)
    assert [place(option) for option in verdict.culprits] == [("interface", POLICY, 1), ("interface", POLICY, 2)]
    assert "only bond0, lo is allowed" in verdict.because


def test_excluded_and_not_listed_blames_both() -> None:
    verdict = ask(config("interface=bond0", "except-interface=cilium_*"), POD)
    assert [place(option) for option in verdict.culprits] == [
        ("except-interface", POLICY, 2),
        ("interface", POLICY, 1),
    ]


# --- effective configuration ---------------------------------------------------------------------------------------


def test_a_file_overrides_the_command_line_and_not_the_other_way_round() -> None:
    assert config("port=5353", arguments="--port=53").port == 5353
    early = {
        "/early": {"path": "/early", "kind": "file", "content": "port=5353\nlocal-service=host", "entries": []},
        POLICY: {"path": POLICY, "kind": "file", "content": "", "entries": []},
    }
    argv = ["dnsmasq", "-C", POLICY, "-C", "/early", "--port=54", "--local-service"]
    given, _ = read_options(argv, early)  # type: ignore[arg-type]
    late = configuration(given)
    assert (late.port, late.local_scope) == (5353, "host")
    assert configuration([one for one in given if one["file"] != "/early"]).local_scope == "net"


def test_local_service_net_wins_over_host() -> None:
    settings = config("local-service=host", arguments="--local-service")
    assert (settings.local_scope, settings.binding) == ("net", Binding.WILDCARD)
    assert place(settings.local_service) == ("local-service", "", 0)


def test_local_service_host_binds_loopback_only() -> None:
    settings = config("local-service=host")
    assert settings.binding is Binding.INTERFACES
    assert {str(socket) for socket in starts(settings, NODE).sockets} == {
        "udp 127.0.0.1:53",
        "tcp 127.0.0.1:53",
        "udp [::1]:53",
        "tcp [::1]:53",
    }
    verdict = ask(settings, LAN)
    assert (verdict.outcome, place(verdict.culprit)) == (Outcome.REFUSED, ("local-service", POLICY, 1))


@pytest.mark.parametrize("line", ["port=0", "port=5353", "port="])
def test_another_port(line: str) -> None:
    settings = config(line)
    verdict = ask(settings, LAN)
    assert (verdict.outcome, place(verdict.culprit)) == (Outcome.REFUSED, ("port", POLICY, 1))
    assert starts(settings, replace(NODE, listeners=RESOLVED)).started
    query = replace(Query.of("172.25.4.9", VIP, "udp", "bond0"), port=5353)
    assert (answer(settings, NODE, query).outcome is Outcome.ANSWERED) is (line == "port=5353")


def test_auth_server_answers_for_its_own_zones_only() -> None:
    settings = config("auth-server=ns.test,cilium_host", "except-interface=cilium_*", arguments="--local-service")
    verdict = ask(settings, POD)
    assert (verdict.outcome, verdict.authoritative_only) == (Outcome.ANSWERED, True)
    assert not ask(settings, LAN).authoritative_only
    assert config("auth-server=ns.test", arguments="--local-service").local_service is None
    assert config("auth-server=", arguments="--local-service").local_service is not None


def test_auth_server_for_one_family_only() -> None:
    settings = config("auth-server=ns.test,cilium_host/6", "except-interface=cilium_*")
    assert ask(settings, POD).outcome is Outcome.TIMEOUT
    assert ask(settings, ("fd26::145", "cilium_host"), "fd25::1").authoritative_only


# --- starting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code", "message", "culprits"),
    [
        (["bind-interfaces", "bind-dynamic"], 1, "cannot set --bind-interfaces and --bind-dynamic", [1, 2]),
        (["local-service=host", "bind-dynamic"], 1, "cannot set --bind-interfaces and --bind-dynamic", [1, 2]),
        (["auth-zone=a.test"], 1, "--auth-server required when an auth zone is defined", [1]),
        (["bind-interfaces", "interface=eth9"], 2, "unknown interface eth9", [2]),
        (["bind-interfaces", "interface=lo", "interface=vxlan*,bond0"], 2, "unknown interface vxlan*", [3]),
        (["bind-interfaces", "interface=cilium_net"], 2, "unknown interface cilium_net", [2]),
        (["bind-interfaces", "listen-address=10.9.9.9"], 2, "10.9.9.9: Cannot assign requested address", [2]),
        (["bind-interfaces", "listen-address=fe80::99"], 2, "fe80::99: Invalid argument", [2]),
        (["bind-dynamic", "listen-address=fe80::99"], 2, "fe80::99: Invalid argument", [2]),
        (["bind-dynamic", "interface=bond0", "listen-address=0.0.0.0"], 2, "0.0.0.0: Address already in use", [3]),
        (["bind-interfaces", "listen-address=127.0.0.9,127.0.0.9"], 2, "127.0.0.9: Address already in use", [2]),
    ],
)
def test_does_not_start(lines: list[str], code: int, message: str, culprits: list[int]) -> None:
    start = starts(config(*lines), NODE)
    assert (start.started, start.code, start.sockets) == (False, code, ())
    assert message in start.because
    assert [option["line"] for option in start.culprits] == culprits
    verdict = ask(config(*lines), LAN)
    assert (verdict.outcome, verdict.culprits) == (Outcome.NOT_STARTED, start.culprits)
    assert message in verdict.because


@pytest.mark.parametrize(
    "lines",
    [
        ["interface=eth9"],
        ["bind-dynamic", "interface=eth9"],
        ["bind-dynamic", "listen-address=10.9.9.9"],
        ["bind-interfaces", "interface="],
        ["bind-interfaces", "listen-address=127.0.0.9"],
        ["bind-interfaces", "listen-address=0.0.0.0"],
        ["bind-interfaces", "interface=bond0,bond0", "listen-address=172.25.4.1,172.25.4.1"],
        ["bind-interfaces", "except-interface=eth9"],
    ],
)
def test_starts(lines: list[str]) -> None:
    start = starts(config(*lines), NODE)
    assert (start.started, start.code, start.because, start.culprit) == (True, 0, "", None)


def test_warnings_of_a_start() -> None:
    assert starts(config("interface=eth9"), NODE).warnings == ("warning: interface eth9 does not currently exist",)
    assert starts(config("interface=bond0:1"), NODE).warnings == ("warning: using interface bond0 instead",)
    public = replace(NODE, addresses=(*NODE.addresses, Address.of("bond0", "198.18.0.1/32")))
    assert starts(config("bind-interfaces"), public).warnings == (
        "LOUD WARNING: listening on 198.18.0.1 may accept requests via interfaces other than bond0",
    )


@pytest.mark.parametrize("line", ["", "except-interface=lo", "interface=bond0", "listen-address=172.25.4.1"])
def test_systemd_resolved_keeps_the_wildcard_out_whatever_the_filter(line: str) -> None:
    host = replace(NODE, listeners=RESOLVED)
    start = starts(config(line), host)
    assert (start.started, start.code) == (False, 2)
    assert start.because.startswith("failed to create listening socket for port 53: Address already in use")
    assert "systemd-resolve on 127.0.0.53%lo:53" in start.because
    for mode in ("bind-interfaces", "bind-dynamic"):
        assert starts(config(mode, line), host).started


def test_an_address_that_is_held_by_another_process() -> None:
    held = replace(NODE, listeners=(Listener.of("tcp", "172.26.2.58", 53, None, "coredns"),))
    start = starts(config("bind-interfaces", "interface=cilium_host"), held)
    assert (start.started, place(start.culprit)) == (False, ("interface", POLICY, 2))
    assert "172.26.2.58: Address already in use by coredns on 172.26.2.58:53 (tcp)" in start.because
    assert starts(config("bind-interfaces", "interface=bond0"), held).started
    everywhere = replace(NODE, listeners=(Listener.of("tcp", "*", 53, None, "coredns"),))
    assert not starts(config("bind-interfaces", "listen-address=172.25.4.1"), everywhere).started
    only_ipv6 = replace(NODE, listeners=(Listener.of("tcp", "::", 53, None, "coredns"),))
    assert starts(config("bind-interfaces", "listen-address=172.25.4.1"), only_ipv6).started


# --- after the start -----------------------------------------------------------------------------------------------

LATER = replace(NODE, addresses=(*NODE.addresses, Address.of("bond0", "172.25.4.7/24")))


@pytest.mark.parametrize(
    ("mode", "expected"), [("", "answered"), ("bind-interfaces", "conn-refused"), ("bind-dynamic", "answered")]
)
def test_a_vip_that_comes_later(mode: str, expected: str) -> None:
    settings = config(mode, "except-interface=lo")
    at_start = starts(settings, NODE)
    query = Query.of("172.25.4.9", "172.25.4.7", "tcp", "bond0")
    verdict = answer(settings, LATER, query, at_start)
    assert verdict.outcome == expected
    if mode == "bind-interfaces":
        assert "has to be restarted" in verdict.because
        assert place(verdict.culprit) == ("bind-interfaces", POLICY, 1)
    assert answer(settings, LATER, query, starts(settings, LATER)).outcome is Outcome.ANSWERED
    assert answer(settings, NODE, query, at_start).outcome is Outcome.TIMEOUT


def test_listen_address_before_its_address_needs_nonlocal_bind() -> None:
    settings = config("bind-interfaces", "listen-address=172.25.4.7")
    assert not starts(settings, NODE).started
    early = starts(settings, replace(NODE, nonlocal_bind=True))
    assert early.started
    query = Query.of("172.25.4.9", "172.25.4.7", "udp", "bond0")
    assert answer(settings, LATER, query, early).outcome is Outcome.ANSWERED


def test_bind_dynamic_takes_a_new_address_unless_another_process_holds_it() -> None:
    settings = config("bind-dynamic")
    at_start = starts(settings, NODE)
    held = replace(LATER, listeners=(Listener.of("tcp", "172.25.4.7", 53, None, "other"),))
    query = Query.of("172.25.4.9", "172.25.4.7", "udp", "bond0")
    assert answer(settings, held, query, at_start).outcome is Outcome.REFUSED
    assert answer(settings, LATER, query, at_start).outcome is Outcome.ANSWERED


# --- replies -------------------------------------------------------------------------------------------------------


def test_bind_interfaces_on_every_address_leaves_the_source_of_replies_to_the_kernel() -> None:
    settings = config("bind-interfaces", "listen-address=0.0.0.0")
    assert both(settings, POD) == "tY"
    assert both(settings, POD, "172.26.2.58") == "YY"
    # The VIP is a secondary address here: replies leave from the first one.
    assert both(settings, LAN) == "tY"
    assert both(settings, LAN, "172.25.4.10") == "YY"
    assert both(settings, (VIP, "bond0"), VIP) == "tY"
    known = replace(
        Query.of(*("172.26.2.145", VIP, "udp"), arrival="cilium_host"), reply_from=Address.of("x", VIP).ip.ip
    )
    assert answer(settings, NODE, known).outcome is Outcome.ANSWERED
    assert place(ask(settings, POD).culprit) == ("listen-address", POLICY, 2)


def test_a_link_local_address_is_served_to_link_local_sources_over_wildcard_tcp() -> None:
    assert both(config(), ("fd25::9", "bond0"), "fe80::b0") == "Yc"
    assert both(config(), ("fe80::9", "bond0"), "fe80::b0") == "YY"
    assert both(config("bind-dynamic"), ("fd25::9", "bond0"), "fe80::b0") == "YY"


def test_the_host_asks_itself_over_the_interface_that_has_the_address() -> None:
    query = Query.from_host(NODE, VIP, "udp")
    assert (str(query.source), query.arrival) == (VIP, "bond0")
    query = Query.from_host(NODE, "127.0.0.53", "udp")
    assert (str(query.source), query.arrival) == ("127.0.0.1", "lo")
