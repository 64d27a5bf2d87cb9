"""What can be asked, what the counts say, and what is read from records that no server would give."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from probes import count, python3, wire
from probes.carry import IN_FLIGHT, MOST_SECONDS, carry, longest, time_limit
from probes.dns import Answers
from probes.errors import outcome_of
from probes.probe import HOST, Outcome, Probe, Result, Try, pod, probe
from probes.read import read

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"destination": "dns.example"}, "does not appear to be an IPv4 or IPv6 address"),
    ({"destination": ""}, "no address"),
    ({"destination": "fe80::1%eth0;id"}, "names an interface"),
    ({"name": ""}, "no name"),
    ({"name": "a..b"}, "empty"),
    ({"name": "a" * 64}, "label"),
    ({"rdtype": "NOPE"}, "unknown|UnknownRdatatype"),
    ({"rcodes": ["FINE"]}, "unknown|UnknownRcode"),
    ({"protocol": "sctp"}, "none of udp, tcp, icmp"),
    ({"port": 0}, "port 0"),
    ({"tries": 0}, "0 tries"),
    ({"deadline_s": 0}, "deadline of 0 s"),
    ({"source": {"name": "p", "netns": "", "address": "nowhere"}}, "nowhere"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_what_cannot_be_asked(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        probe(**{"destination": "10.9.0.1", "name": "a.x", **change})
    with pytest.raises(ValueError, match=reason):
        carry([{**probe("10.9.0.1", "a.x"), **change}])  # type: ignore[typeddict-item]


def test_a_pod_is_a_process_or_a_namespace() -> None:
    assert pod("default/a", 7)["netns"] == "/proc/7/ns/net"
    assert pod("default/a", netns="/run/netns/a b")["netns"] == "/run/netns/a b"
    for arguments in ({}, {"pid": 7, "netns": "/run/netns/a"}):
        with pytest.raises(ValueError, match="one of them"):
            pod("default/a", **arguments)  # type: ignore[arg-type]


def test_more_tries_than_there_are_ids() -> None:
    with pytest.raises(ValueError, match="38400 tries"):
        carry([probe("10.9.0.1", "a.x", tries=1000)] * 39)


def test_ids_differ_and_hold_no_line_feed() -> None:
    ids = [wire.identifier(number) for number in range(wire.IDS)]
    assert len(set(ids)) == len(ids)
    assert not [one for one in ids if 0x0A in one.to_bytes(2, "big")]


def test_probes_are_json_and_so_is_the_argument() -> None:
    probes = [probe("10.9.0.1", "a.x", source=pod("a", 7))]
    assert Answers().command(json.dumps(probes)) == Answers().command(probes)


def test_the_command_is_posix_sh_and_small() -> None:
    eight = [probe("10.9.0.1", "kubernetes.default.svc.cluster.local", source=pod("a", pid)) for pid in range(1, 9)]
    command = carry(eight)
    assert subprocess.run(["dash", "-n", "-c", command]).returncode == 0
    assert len(f"sh -c {shlex.quote(command)}") < 30_000


def test_the_python_of_an_old_node_reads_the_carrier() -> None:
    ast.parse(Path(python3.__file__).read_text(), feature_version=(3, 6))


def test_the_time_limit_is_above_what_the_deadlines_add_up_to() -> None:
    dropped = [probe("10.9.0.1", "a.x", tries=40, deadline_s=2)] * 8
    batches = 320 / IN_FLIGHT
    assert batches * 2.3 + 1 < time_limit(dropped, IN_FLIGHT) < 30
    assert time_limit(dropped, IN_FLIGHT, pause=100_000) == time_limit(dropped, IN_FLIGHT) + 32


def test_no_source_asks_for_longer_than_the_most() -> None:
    sources = [probe("10.9.0.1", "a.x", tries=1000, deadline_s=60, source=pod("a", pid)) for pid in range(1, 21)]
    assert longest(sources) == MOST_SECONDS
    assert carry(sources).count(f" {MOST_SECONDS} 4 ") == len(sources)


def test_all_sources_ask_for_as_long() -> None:
    many, few = probe("10.9.0.1", "a.x", tries=80), probe("10.9.0.1", "a.x", tries=20, source=pod("a", 7))
    pauses = re.findall(r"^ask \d+ \S+ \S+ \d+ \d+ (\d+) ", carry([many, few], rate=100), re.MULTILINE)
    assert [int(pause) * tries for pause, tries in zip(pauses, (80, 20), strict=True)] == [1_000_000, 1_000_000]


def result(*outcomes: Outcome, rtts: tuple[float, ...] = (), detail: str = "") -> Result:
    times = iter(rtts)
    tries: list[Try] = [
        {
            "outcome": outcome,
            "rtt_ms": next(times, None) if outcome == "answered" else None,
            "rcode": None,
            "answers": [],
            "detail": detail,
        }
        for outcome in outcomes
    ]
    return {"probe": probe("10.9.0.1", "a.x", tries=len(tries)), "carrier": "bash", "tries": tries}


def test_counts() -> None:
    some = result("answered", "timeout", "timeout", "refused", "not sent", "answered", "answered", rtts=(3, 1, 8))
    assert (count.sent(some), count.received(some), count.lost(some), count.unknown(some)) == (6, 3, 3, 1)
    assert count.rtt(some) == count.Rtt(1, 3, 8)
    assert count.summary(some) == "answered 3/7, timeout 2, refused 1, not sent 1"


def test_counts_of_what_was_not_sent() -> None:
    none = result("not sent", "not sent", detail="nsenter: not found")
    assert (count.sent(none), count.received(none), count.lost(none), count.unknown(none)) == (0, 0, 0, 2)
    assert count.rtt(none) is None
    assert count.summary(none) == "not sent 2/2: nsenter: not found"


def test_the_question_in_one_line() -> None:
    for asked, line in (
        (probe("10.9.0.1", "a.x", protocol="tcp"), "host -> 10.9.0.1:53 TCP a.x A"),
        (probe("fd09::1", "a.x", "AAAA", port=5353), "host -> [fd09::1]:5353 UDP a.x AAAA"),
        (probe("fd09::1", protocol="icmp", source=pod("ns/a", 7)), "ns/a -> fd09::1 ICMP"),
    ):
        assert count.asked({**result("timeout"), "probe": asked}) == line


def outcome(probe: Probe, *lines: str) -> tuple[Outcome, str]:
    attempt = read([probe], ["@dns carrier 0 bash", *lines])[0]["tries"][0]
    return attempt["outcome"], attempt["detail"]


def test_what_the_node_says_of_a_try() -> None:
    udp, tcp = (probe("10.9.0.1", "a.x", protocol="udp", tries=1), probe("10.9.0.1", "a.x", protocol="tcp", tries=1))
    reset = "bash: line 9: read error: 3: Connection reset by peer;"
    assert outcome(udp) == ("not sent", "the node did not say what became of it")
    assert outcome(udp, "@dns stderr 0 sh: killed", "@dns stderr 0 more") == ("not sent", "sh: killed")
    assert outcome(udp, "@dns try 0 0 2000000 timeout") == ("timeout", "")
    assert outcome(tcp, f"@dns try 0 0 300 closed {reset}") == ("closed", "Connection reset by peer")
    assert outcome(tcp, f"@dns try 0 0 300 error {reset}") == ("closed", "Connection reset by peer")
    assert outcome(udp, "@dns try 0 0 300 error bash: line 1: printf: write error: Operation not permitted;") == (
        "not sent",
        "bash: line 1: printf: write error: Operation not permitted",
    )
    assert outcome(udp, "@dns try 0 0 9 answer", "@dns data 0 0 00")[0] == "bad answer"


@pytest.mark.parametrize(
    ("text", "protocol", "outcome"),
    [
        ("Connection refused", "udp", "refused"),
        ("Host is unreachable", "udp", "unreachable"),
        ("No route to host", "tcp", "unreachable"),
        ("Operation timed out", "tcp", "timeout"),
        ("Connection timed out", "tcp", "timeout"),
        ("Broken pipe", "tcp", "closed"),
        ("Broken pipe", "udp", "not sent"),
        ("Operation not permitted", "udp", "not sent"),
        ("Invalid argument", "udp", "not sent"),
    ],
)
def test_errors(text: str, protocol: str, outcome: Outcome) -> None:
    assert outcome_of(text, protocol) == outcome


def test_an_answer_that_says_nothing_but_its_rcode() -> None:
    """A server that cannot read a question answers without one (RFC 1035, 4.1.1)."""
    asked = probe("10.9.0.1", "a.x", tries=1)
    header = wire.identifier(0).to_bytes(2, "big").hex()
    for flags, expected in (("8182", "answered"), ("8180", "bad answer"), ("0102", "bad answer")):
        data = f"{header}{flags}" + "0000" * 4
        assert outcome(asked, "@dns try 0 0 900 answer", f"@dns data 0 0 {data}")[0] == expected


def test_an_answer_in_several_lines() -> None:
    asked = probe("10.9.0.1", "a.x", tries=1, source=HOST)
    message = wire.query(asked, 0).to_wire().hex()
    response = message[:4] + "8183" + message[8:]
    lines = ["@dns try 0 0 1234 answer", f"@dns data 0 0 {response[:20]}", f"@dns data 0 0 {response[20:]}"]
    attempt = read([asked], lines)[0]["tries"][0]
    assert (attempt["outcome"], attempt["rcode"], attempt["rtt_ms"]) == ("answered", "NXDOMAIN", 1.234)
