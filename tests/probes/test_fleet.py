"""How fast a fleet asks."""

from __future__ import annotations

from probes.carry import longest
from probes.fleet import delays, side_by_side
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


#: What a node's proof asks: its own dnsmasq, and the cluster's DNS.
PROOF = [asked("172.25.4.1", 80), asked("172.25.4.1", 80), asked("10.96.0.10", 80)]


def test_nodes_of_a_wave_share_what_their_server_gets() -> None:
    assert side_by_side(PROOF, 1000, 10, own=["172.25.4.1"]) == 300
    assert side_by_side(PROOF, 1000, 200, own=["172.25.4.1"]) == 15
    # As many of the questions as go to it: with a third of them three nodes ask as fast as one.
    assert [side_by_side(PROOF, 100, nodes, own=["172.25.4.1"]) for nodes in (1, 2, 3)] == [100] * 3


def test_who_asks_nobody_elses_server_asks_as_ever() -> None:
    assert side_by_side(PROOF[:2], 1000, 200, own=["172.25.4.1"]) == 1000
    assert side_by_side([asked("127.0.0.53", 900)], 1000, 200) == 1000
    assert side_by_side([], 1000, 200) == 1000


def test_a_proof_takes_a_minute_at_most() -> None:
    many = [asked("10.96.0.10", 200)] * 30
    assert side_by_side(many, 1000, 1000) == 100
    assert longest(many, side_by_side(many, 1000, 1000)) > 60
    assert side_by_side([asked("10.96.0.10", 1)], 10, 200) == 1
