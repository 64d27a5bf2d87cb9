"""What ping and dig print, of versions that the other tests do not have at hand."""

from __future__ import annotations

import pytest

from probes import dig, ping
from probes.probe import Outcome, probe

IPUTILS = """\
PING 172.25.4.1 (172.25.4.1) 56(84) bytes of data.
64 bytes from 172.25.4.1: icmp_seq=1 ttl=64 time=0.045 ms
From 172.25.4.10 icmp_seq=2 Destination Host Unreachable
64 bytes from 172.25.4.1: icmp_seq=3 ttl=64 time=1234 ms
64 bytes from 172.25.4.1: icmp_seq=1 ttl=64 time=0.099 ms (DUP!)

--- 172.25.4.1 ping statistics ---
4 packets transmitted, 2 received, +1 duplicates, +1 errors, 50% packet loss, time 605ms
"""
BUSYBOX = """\
PING 127.0.0.1 (127.0.0.1): 56 data bytes
64 bytes from 127.0.0.1: seq=0 ttl=64 time=0.041 ms
64 bytes from 127.0.0.1: seq=2 ttl=64 time=0.049 ms

--- 127.0.0.1 ping statistics ---
4 packets transmitted, 2 packets received, 50% packet loss
round-trip min/avg/max = 0.041/0.045/0.049 ms
"""
BUSYBOX_FIRST_LOST = BUSYBOX.replace("seq=0", "seq=1")
CUT_SHORT = """\
PING 10.9.0.9 (10.9.0.9) 56(84) bytes of data.

--- 10.9.0.9 ping statistics ---
2 packets transmitted, 0 received, 100% packet loss, time 1000ms
"""

PINGS: list[tuple[str, list[Outcome]]] = [
    (IPUTILS, ["answered", "unreachable", "timeout", "timeout"]),
    (BUSYBOX, ["answered", "timeout", "answered", "timeout"]),
    (BUSYBOX_FIRST_LOST, ["timeout", "answered", "answered", "timeout"]),
    (CUT_SHORT, ["timeout", "timeout", "not sent", "not sent"]),
    ("ping: connect: Network is unreachable", ["unreachable"] * 4),
    ("PING 10.9.0.1 (10.9.0.1): 56 data bytes\nping: sendto: Network is unreachable", ["unreachable"] * 4),
    ("ping: socket: Operation not permitted", ["not sent"] * 4),
    ("ping: permission denied (are you root?)", ["not sent"] * 4),
    ("timeout: failed to run command 'ping': No such file or directory", ["not sent"] * 4),
    ("", ["not sent"] * 4),
]


@pytest.mark.parametrize(("printed", "outcomes"), PINGS)
def test_ping(printed: str, outcomes: list[Outcome]) -> None:
    asked = probe("10.9.0.1", protocol="icmp", tries=4, deadline_s=1)
    tries = ping.attempts(asked, printed.splitlines())
    assert [attempt["outcome"] for attempt in tries] == outcomes
    assert all((attempt["rtt_ms"] is not None) == (attempt["outcome"] == "answered") for attempt in tries)


HEADING = "; <<>> DiG {} <<>> @10.9.0.1 -p 53 -u +tries=1 +time=1 a.x.\n; (1 server found)\n;; global options: +cmd\n"
ANSWER = """\
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: {rcode}, id: 48218
;; flags: qr aa rd ra; QUERY: 1, ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 0

;; QUESTION SECTION:
;a.x.				IN	A

;; ANSWER SECTION:
a.x.			0	IN	CNAME	b.x.
b.x.			0	IN	A	1.2.3.4

;; Query time: {time}
;; SERVER: 10.9.0.1#53(10.9.0.1) (UDP)
"""

DIGS: list[tuple[str, Outcome]] = [
    (ANSWER.format(rcode="NOERROR", time="765 usec"), "answered"),
    (ANSWER.format(rcode="SERVFAIL", time="12 msec"), "answered"),
    (ANSWER.format(rcode="NOERROR", time="999 msec"), "timeout"),
    (";; connection timed out; no servers could be reached", "timeout"),
    (";; communications error to 10.9.0.1#53: timed out\n;; no servers could be reached", "timeout"),
    (";; communications error to 10.9.0.1#53: connection refused", "refused"),
    (";; Connection to 10.9.0.1#53(10.9.0.1) for a.x failed: connection refused.", "refused"),
    (";; communications error to 10.9.0.1#53: end of file", "closed"),
    (";; communications error to 10.9.0.1#53: connection reset", "closed"),
    (";; Connection to 10.9.0.1#53(10.9.0.1) for a.x failed: host unreachable.", "unreachable"),
    (";; UDP setup with 10.9.0.1#53(10.9.0.1) for a.x failed: network unreachable.", "unreachable"),
    ("dig: parse of /etc/resolv.conf failed", "not sent"),
    ("", "not sent"),
]


@pytest.mark.parametrize("version", ["9.11.36-RedHat-9.11.36-14.el8", "9.18.28-1~deb12u2-Debian"])
@pytest.mark.parametrize(("printed", "outcome"), DIGS)
def test_dig(version: str, printed: str, outcome: Outcome) -> None:
    asked = probe("10.9.0.1", "a.x", protocol="tcp", deadline_s=0.8)
    attempt = dig.attempt(asked, (HEADING.format(version) + printed).splitlines())
    assert attempt["outcome"] == outcome
    assert attempt["answers"] == (["b.x.", "1.2.3.4"] if outcome == "answered" else [])
    assert bool(attempt["detail"]) == (outcome != "answered")


def test_dig_times_are_milliseconds() -> None:
    asked = probe("10.9.0.1", "a.x")
    for time, milliseconds in (("765 usec", 0.765), ("12 msec", 12)):
        lines = ANSWER.format(rcode="NOERROR", time=time).splitlines()
        assert dig.attempt(asked, lines)["rtt_ms"] == milliseconds
