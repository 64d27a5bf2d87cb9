"""How fast a fleet asks."""

from __future__ import annotations

from probes.fleet import delays
from probes.probe import Probe, probe


def asked(destination: str, tries: int) -> Probe:
    return probe(destination, "example.com.", tries=tries)


def test_nodes_that_ask_the_same_server_take_turns() -> None:
    node = [asked("192.0.2.1", 50), asked("192.0.2.2", 3)]
    assert delays([node] * 4, rate=100) == [0, 0.5, 1.0, 1.5]


def test_the_busiest_of_its_servers_holds_a_node_up() -> None:
    others = [asked("192.0.2.1", 100), asked("192.0.2.1", 100), asked("2001:db8::1", 500)]
    assert delays([others, [asked("192.0.2.1", 1)], [asked("192.0.2.1", 1), asked("2001:db8::1", 1)]], 1000) == [
        0,
        0.2,
        0.5,
    ]


def test_who_asks_somebody_of_its_own_waits_for_nobody() -> None:
    own = [[asked(address, 500)] for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3")]
    everywhere = [asked("127.0.0.53", 900), asked("::1", 900), asked("169.254.20.10", 900)]
    assert delays([*own, everywhere, everywhere, []], 1000) == [0] * 6
