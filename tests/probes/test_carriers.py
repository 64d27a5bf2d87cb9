"""Every carrier against real servers, in network namespaces that the tests make."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from probes import count
from probes.dns import Answers
from probes.probe import Probe, Protocol, pod, probe
from tests.probes import servers
from tests.probes.conftest import Network

CARRIERS = {"python3": (), "bash": ("python3",), "dig": ("bash", "python3")}
EXACT = ("bash", "python3")


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=EXACT)
def exact(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def outcomes(network: Network, carrier: str, *probes: Probe) -> list[dict[str, int]]:
    results = network.ask(*probes, path=network.path(*CARRIERS[carrier]))
    assert {result["carrier"] for result in results} == {carrier}
    found: list[dict[str, int]] = []
    for result in results:
        seen = [attempt["outcome"] for attempt in result["tries"]]
        found.append({outcome: seen.count(outcome) for outcome in seen})
    return found


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_answers_from_the_host_and_from_a_pod(network: Network, carrier: str, protocol: Protocol) -> None:
    for result in network.ask(
        probe("10.9.0.1", "a.x", protocol=protocol),
        probe("10.9.0.1", "a.x", protocol=protocol, source=network.in_pod),
        path=network.path(*CARRIERS[carrier]),
    ):
        assert count.summary(result) == "answered 20/20"
        assert result["carrier"] == carrier
        for attempt in result["tries"]:
            assert (attempt["rcode"], attempt["answers"], attempt["detail"]) == ("NOERROR", ["1.2.3.4"], "")
            assert attempt["rtt_ms"] is not None and attempt["rtt_ms"] > 0


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_ipv6(network: Network, carrier: str, protocol: Protocol) -> None:
    source = pod("default/client", network.pod, address="fd09::2")
    asked = probe("fd09::1", "a.x", protocol=protocol, source=source, tries=5)
    assert outcomes(network, carrier, asked) == [{"answered": 5}]


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_a_label_of_ten_letters_puts_a_line_feed_into_the_question(
    network: Network, carrier: str, protocol: Protocol
) -> None:
    asked = probe("10.9.0.1", "kubernetes.default-01.x", protocol=protocol)
    assert outcomes(network, carrier, asked) == [{"answered": 20}]


def test_names_that_a_shell_would_touch(network: Network, carrier: str) -> None:
    names = ["*.x", r"a\032b.x", "$HOME.x", "'quoted'.x", r"a\.b.x", "100%d.x", r"\255\000\001.x", "`id`.x"]
    asked = [probe("10.9.0.1", name, tries=2) for name in names]
    assert outcomes(network, carrier, *asked) == [{"answered": 2}] * len(names)


def test_more_ids_than_a_byte_holds(network: Network, exact: str) -> None:
    assert outcomes(network, exact, *[probe("10.9.0.1", "a.x", tries=110)] * 3) == [{"answered": 110}] * 3


def test_rcodes_are_told_and_may_be_required(network: Network, carrier: str) -> None:
    told, required = network.ask(
        probe("10.9.0.1", "refused.example", tries=3),
        probe("10.9.0.1", "refused.example", tries=3, rcodes=["NOERROR", "NXDOMAIN"]),
        path=network.path(*CARRIERS[carrier]),
    )
    assert [attempt["rcode"] for attempt in told["tries"]] == ["REFUSED"] * 3
    assert count.summary(told) == "answered 3/3"
    assert count.summary(required) == "answered 0/3, bad answer 3"
    assert required["tries"][0]["detail"] == "REFUSED instead of NOERROR or NXDOMAIN"


def test_what_is_dropped_times_out_all_at_once(network: Network, carrier: str) -> None:
    dropped = [
        probe("10.9.0.9", "a.x", protocol=protocol, source=network.in_pod, deadline_s=2) for protocol in ("udp", "tcp")
    ]
    done, seconds = network.run(dropped, network.path(*CARRIERS[carrier]))
    results = Answers().process(done.stdout.splitlines())
    assert [count.summary(result) for result in results] == ["answered 0/20, timeout 20"] * 2
    # One after the other they would take 80 s.
    assert 2 <= seconds < 40
    if carrier in EXACT:
        assert {attempt["detail"] for attempt in results[1]["tries"]} == {"no connection"}


def test_more_tries_than_may_be_in_flight(network: Network, exact: str) -> None:
    dropped = probe("10.9.0.9", "a.x", source=network.in_pod, tries=150, deadline_s=0.5)
    done, seconds = network.run([dropped], network.path(*CARRIERS[exact]))
    assert count.summary(Answers().process(done.stdout.splitlines())[0]) == "answered 0/150, timeout 150"
    # One after the other they would take 75 s.
    assert seconds < 40


def test_no_faster_than_it_may(network: Network, carrier: str) -> None:
    asked = [probe("10.9.0.1", "a.x", tries=20), probe("10.9.0.1", "a.x", source=network.in_pod, tries=20)]
    done, seconds = network.run(asked, network.path(*CARRIERS[carrier]), rate=40)
    assert [count.summary(result) for result in Answers().process(done.stdout.splitlines())] == ["answered 20/20"] * 2
    # 19 pauses of 50 ms, in each of the sources.
    assert seconds > 0.94


def test_nothing_listens(network: Network, carrier: str) -> None:
    asked = [probe("10.9.0.1", "a.x", port=5999, protocol=protocol, tries=5) for protocol in ("udp", "tcp")]
    assert outcomes(network, carrier, *asked) == [{"refused": 5}] * 2


@pytest.mark.parametrize("port", [servers.CLOSES, servers.RESETS])
def test_a_connection_that_ends_without_an_answer(network: Network, carrier: str, port: int) -> None:
    asked = probe("10.9.0.1", "a.x", port=port, protocol="tcp", source=network.in_pod, tries=10)
    assert outcomes(network, carrier, asked) == [{"closed": 10}]


def test_a_connection_that_stays_silent(network: Network, exact: str) -> None:
    asked = probe("10.9.0.1", "a.x", port=servers.MUTE, protocol="tcp", tries=5, deadline_s=0.5)
    result = network.ask(asked, path=network.path(*CARRIERS[exact]))[0]
    assert count.summary(result) == "answered 0/5, timeout 5"
    assert {attempt["detail"] for attempt in result["tries"]} == {"connected, 0 bytes"}


def test_the_time_is_that_of_the_answer(network: Network, carrier: str) -> None:
    asked = probe("10.9.0.1", "a.x", port=servers.SLOW, protocol="tcp", tries=5)
    result = network.ask(asked, path=network.path(*CARRIERS[carrier]))[0]
    times = count.rtt(result)
    assert times is not None
    assert 300 <= times.minimum <= times.median <= times.maximum


def test_an_answer_with_every_byte_in_it(network: Network, exact: str) -> None:
    asked = probe("10.9.0.1", "a.x", "TXT", port=servers.LARGE, protocol="tcp", tries=3)
    result = network.ask(asked, path=network.path(*CARRIERS[exact]))[0]
    assert count.summary(result) == "answered 3/3"
    assert r"\000\001" in result["tries"][0]["answers"][0]
    assert result["tries"][0]["answers"][0].endswith("z" * 255 + '"')


def test_an_answer_in_pieces(network: Network, exact: str) -> None:
    asked = probe("10.9.0.1", "a.x", port=servers.STUTTERS, protocol="tcp", tries=3)
    assert outcomes(network, exact, asked) == [{"answered": 3}]


def test_every_second_question_is_lost(network: Network, exact: str) -> None:
    asked = probe("10.9.0.1", "a.x", port=servers.HALF, source=network.in_pod, deadline_s=0.5)
    result = network.ask(asked, path=network.path(*CARRIERS[exact]))[0]
    assert count.summary(result) == "answered 10/20, timeout 10"
    assert (count.sent(result), count.received(result), count.lost(result), count.unknown(result)) == (20, 10, 10, 0)


@pytest.mark.parametrize(
    ("port", "detail"),
    [
        (servers.WRONG_ID, "instead of"),
        (servers.OTHER_QUESTION, "not the answer to this question but to other.x. IN A"),
        (servers.GARBAGE, "7 bytes that are not a DNS message"),
        (servers.EMPTY, "0 bytes that are not a DNS message"),
    ],
)
def test_what_is_no_answer_to_the_question(network: Network, exact: str, port: int, detail: str) -> None:
    result = network.ask(probe("10.9.0.1", "a.x", port=port, tries=3), path=network.path(*CARRIERS[exact]))[0]
    assert count.summary(result) == "answered 0/3, bad answer 3"
    assert detail in result["tries"][0]["detail"]


def test_a_truncated_answer_is_an_answer(network: Network, exact: str) -> None:
    asked = probe("10.9.0.1", "a.x", port=servers.TRUNCATED, tries=1)
    attempt = network.ask(asked, path=network.path(*CARRIERS[exact]))[0]["tries"][0]
    assert (attempt["outcome"], attempt["detail"]) == ("answered", "truncated")


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_no_route(network: Network, carrier: str, protocol: Protocol) -> None:
    asked = [
        probe(address, "a.x", protocol=protocol, source=network.in_pod, tries=2)
        for address in ("10.9.8.1", "10.99.0.1")
    ]
    assert outcomes(network, carrier, *asked) == [{"unreachable": 2}] * 2


def test_what_the_source_itself_does_not_let_out_was_not_sent(network: Network, exact: str) -> None:
    asked = probe("10.9.0.1", "a.x", port=6999, source=network.in_pod, tries=2)
    result = network.ask(asked, path=network.path(*CARRIERS[exact]))[0]
    assert count.unknown(result) == 2
    assert "Operation not permitted" in result["tries"][0]["detail"]


def test_a_pod_that_is_gone_costs_only_its_own_probes(network: Network, carrier: str) -> None:
    with subprocess.Popen(["true"]) as ended:
        gone = pod("default/gone", ended.pid)
    other, there, icmp = network.ask(
        probe("10.9.0.1", "a.x", source=gone, tries=3),
        probe("10.9.0.1", "a.x", source=network.in_pod, tries=3),
        probe("10.9.0.1", protocol="icmp", source=gone, tries=2),
        path=network.path(*CARRIERS[carrier]),
    )
    assert count.summary(there) == "answered 3/3"
    for result, total in ((other, 3), (icmp, 2)):
        assert (count.sent(result), count.lost(result), count.unknown(result)) == (0, 0, total)
        assert "No such file or directory" in result["tries"][0]["detail"]


def test_a_process_id_that_now_belongs_to_something_else(network: Network) -> None:
    reused = pod("default/client", network.node, address="10.9.0.2")
    asked = [
        probe("10.9.0.1", "a.x", source=reused, tries=1),
        probe("10.9.0.1", protocol="icmp", source=reused, tries=1),
    ]
    for result in network.ask(*asked):
        assert count.summary(result) == "not sent 1/1: the address is not in this network namespace"


def test_a_node_with_no_carrier_at_all(network: Network) -> None:
    path = network.path("bash", "python3", "dig", "ping")
    question, icmp = network.ask(
        probe("10.9.0.1", "a.x", tries=2), probe("10.9.0.1", protocol="icmp", tries=2), path=path
    )
    assert count.summary(question) == "not sent 2/2: the node has neither bash nor python3 nor dig"
    assert count.unknown(icmp) == 2
    assert "ping" in icmp["tries"][0]["detail"]


@pytest.mark.parametrize(
    ("python3", "missing", "carrier"),
    [
        ("echo 'ModuleNotFoundError: No module named _socket' >&2; exit 1", (), "bash"),
        ("exit 127", (), "bash"),
        ("exit 139", (), "bash"),
        ("exit 1", ("bash",), "dig"),
    ],
)
def test_a_python_that_cannot_work_gives_way(
    network: Network, tmp_path: Path, python3: str, missing: tuple[str, ...], carrier: str
) -> None:
    (tmp_path / "python3").write_text(f"#!/bin/sh\n{python3}\n")
    (tmp_path / "python3").chmod(0o755)
    for result in network.ask(
        probe("10.9.0.1", "a.x", tries=2),
        probe("10.9.0.1", "a.x", source=network.in_pod, tries=2),
        path=f"{tmp_path}:{network.path('python3', *missing)}",
    ):
        assert (count.summary(result), result["carrier"]) == ("answered 2/2", carrier)


def test_a_python_that_ends_in_between_is_not_asked_twice(network: Network, tmp_path: Path) -> None:
    """It has asked already: the tries that it has told of count, and no other carrier asks them again."""
    real = network.path() + "/python3"
    script = f'#!/bin/sh\ncase $3 in import*) exec {real} "$@" ;; esac\n{real} "$@"\nexit 1\n'
    (tmp_path / "python3").write_text(script)
    (tmp_path / "python3").chmod(0o755)
    done, _ = network.run([probe("10.9.0.1", "a.x", tries=3)], f"{tmp_path}:{network.path('python3')}")
    assert done.stdout.count("@dns try") == 3
    assert done.stdout.count("@dns carrier") == 1


def test_no_nsenter(network: Network) -> None:
    result = network.ask(probe("10.9.0.1", "a.x", source=network.in_pod, tries=2), path=network.path("nsenter"))[0]
    assert count.unknown(result) == 2
    assert "nsenter" in result["tries"][0]["detail"]


def test_icmp(network: Network) -> None:
    answered, dropped, unreachable, no_route = network.ask(
        probe("10.9.0.1", protocol="icmp", source=network.in_pod, tries=5),
        probe("10.9.0.9", protocol="icmp", source=network.in_pod, tries=3, deadline_s=1),
        probe("10.9.8.1", protocol="icmp", source=network.in_pod, tries=2),
        probe("10.99.0.1", protocol="icmp", source=network.in_pod, tries=2),
    )
    assert count.summary(answered) == "answered 5/5"
    assert count.rtt(answered) is not None
    assert count.summary(dropped) == "answered 0/3, timeout 3"
    assert count.summary(unreachable) == "answered 0/2, unreachable 2"
    assert count.summary(no_route) == "answered 0/2, unreachable 2"


def test_eight_probes_fit_a_command_line(network: Network, exact: str) -> None:
    eight = [
        probe("10.9.0.1", f"kubernetes-{number}.x", protocol=protocol, source=network.in_pod)
        for number in range(4)
        for protocol in ("udp", "tcp")
    ]
    assert len(Answers().command(eight)) < 30_000
    done, _ = network.run(eight, network.path(*CARRIERS[exact]))
    results = Answers().process(done.stdout.splitlines())
    assert {count.summary(result) for result in results} == {"answered 20/20"}


def test_no_process_is_left_behind(network: Network, carrier: str) -> None:
    dropped = [
        probe("10.9.0.9", "a.x", protocol=protocol, source=network.in_pod, tries=3, deadline_s=0.3)
        for protocol in ("udp", "tcp")
    ]
    network.run(dropped, network.path(*CARRIERS[carrier]))
    links = [entry for entry in Path("/proc").glob("[0-9]*/ns/net") if _same(entry, network.pod)]
    assert [int(link.parts[2]) for link in links] == [network.pod]


def _same(link: Path, pid: int) -> bool:
    try:
        return link.readlink() == Path(f"/proc/{pid}/ns/net").readlink()
    except OSError:
        return False


def test_a_login_banner_is_passed_over(network: Network) -> None:
    done, _ = network.run([probe("10.9.0.1", "a.x", tries=2)])
    noisy = ["Welcome to node-0", "@dns nonsense", "@dns try 0", *done.stdout.splitlines(), "@dns data 0 9 zz"]
    assert count.summary(Answers().process(noisy)[0]) == "answered 2/2"
    with pytest.raises(FactProcessError):
        Answers().process(["Welcome to node-0"])
