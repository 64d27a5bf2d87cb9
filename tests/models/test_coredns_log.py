"""What each of CoreDNS's lines means, and how lines of a fleet are summed up."""

from __future__ import annotations

import pytest

from facts.coredns_logs import LogGroup
from models.coredns_log import complaints, meaning, sentence

UPSTREAM = "172.25.4.1:53"


def group(text: str, level: str = "ERROR", times: int = 1, first: str = "2026-11-22T03:00:00Z") -> LogGroup:
    return {
        "file": "pods/kube-system_coredns-7c9d-abcde_uid/coredns/0.log",
        "pod": "kube-system/coredns-7c9d-abcde",
        "level": level,
        "text": text,
        "example": text,
        "times": times,
        "first": first,
        "last": "2026-11-22T03:10:00Z",
        "since": first,
        "spell": times,
    }


@pytest.mark.parametrize(
    ("text", "kind", "upstream", "protocol"),
    [
        ("plugin/errors: read udp 10.244.0.5->172.25.4.1:53: i/o timeout", "no answer", UPSTREAM, "udp"),
        (
            "plugin/errors: unreachable backend: read udp 10.0.0.5->172.25.4.1:53: i/o timeout",
            "no answer",
            UPSTREAM,
            "udp",
        ),
        ("plugin/errors: read udp [fd00::5]->[fd00::a]:53: i/o timeout", "no answer", "[fd00::a]:53", "udp"),
        ("plugin/errors: dial tcp 172.25.4.1:53: i/o timeout", "no answer", UPSTREAM, "tcp"),
        ("plugin/errors: read udp 10.244.0.5->172.25.4.1:53: read: connection refused", "refused", UPSTREAM, "udp"),
        ("plugin/errors: dial tcp 172.25.4.1:53: connect: connection refused", "refused", UPSTREAM, "tcp"),
        (
            "plugin/errors: write udp 10.0.0.5->172.25.4.1:53: write: operation not permitted",
            "not permitted",
            UPSTREAM,
            "udp",
        ),
        ("plugin/errors: dial udp 172.25.4.1:53: connect: network is unreachable", "unreachable", UPSTREAM, "udp"),
        ("plugin/errors: read tcp 10.0.0.5->172.25.4.1:53: read: connection reset by peer", "closed", UPSTREAM, "tcp"),
        ("plugin/errors: EOF", "closed", "", ""),
        ("plugin/errors: errors like '^read udp .* i/o timeout$' occurred in last 30s", "no answer", "", "udp"),
        ("plugin/errors: plugin/forward: no next plugin found", "no plugin", "", ""),
        ("plugin/errors: unreachable backend: no upstream host", "no upstream", "", ""),
        ("plugin/errors: concurrent queries exceeded maximum 1000", "too many queries", "", ""),
        ("plugin/errors: dial udp: lookup dns.corp on 10.0.0.1:53: server misbehaving", "not resolved", "", ""),
        ('plugin/loop: Loop (127.0.0.1 -> :53) detected for zone "."', "loop", "", ""),
        ('plugin/loop: Seen "HINFO N." to 10.2.3.4:53 more than twice, loop detected', "loop", "", ""),
        (
            "reflector.go:229: Failed to watch *v1.Service: dial tcp 10.32.0.1:443: i/o timeout",
            "API server",
            "10.32.0.1:443",
            "tcp",
        ),
        ("plugin/kubernetes: starting server with unsynced Kubernetes API", "API server", "", ""),
        ("plugin/health: Local health request took more than 1s", "other", "", ""),
    ],
)
def test_what_a_line_means(text: str, kind: str, upstream: str, protocol: str) -> None:
    (one,) = complaints({"node-1": [group(text)]})
    assert (one["kind"], one["upstream"], one["protocol"]) == (kind, upstream, protocol)
    assert meaning(one)


def test_a_panic_is_a_crash() -> None:
    assert complaints({"node-1": [group("panic: runtime error: i/o timeout", "PANIC")]})[0]["kind"] == "crash"


def test_a_question_of_its_start_is_kept_apart() -> None:
    text = "plugin/errors: {}read udp 10.244.0.5->172.25.4.1:53: i/o timeout"
    found = complaints({"node-1": [group(text.format("HINFO: ")), group(text.format(""), times=5)]})
    assert [(one["startup"], one["times"]) for one in found] == [(False, 5), (True, 1)]
    assert meaning(found[1]).endswith("(only asked at its start, HINFO)")


def test_lines_of_a_fleet_are_summed_up_per_upstream() -> None:
    text = "plugin/errors: read udp {}->172.25.4.1:53: i/o timeout"
    found = complaints(
        {
            "node-2": [group(text.format("10.244.2.5"), times=10, first="2026-11-22T03:05:00Z")],
            "node-1": [group(text.format("10.244.1.5"), times=302)],
        }
    )
    assert len(found) == 1
    assert found[0]["sources"] == ["10.244.1.5", "10.244.2.5"]
    assert sentence(found[0]) == (
        "node-1 kube-system/coredns-7c9d-abcde, node-2 kube-system/coredns-7c9d-abcde: "
        "no answer from 172.25.4.1:53 over UDP: 312 times, 2026-11-22T03:00:00Z to 2026-11-22T03:10:00Z"
    )


def test_what_is_long_over_is_left_out() -> None:
    assert complaints({"node-1": [group("plugin/errors: EOF")]}, since="2026-11-22T03:10:01Z") == []
    assert len(complaints({"node-1": [group("plugin/errors: EOF")]}, since="2026-11-22T03:10:00Z")) == 1
