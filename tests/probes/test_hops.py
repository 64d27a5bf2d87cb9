"""How many questions a hop is asked, and what is a loss: played through with networks that lose a known share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from statistics import mean

import pytest

from checks.hops import hops
from models.path import Names, Question, Step
from probes.hops import FEW, HOLDING, MOST, MOST_TO_ONE, ROUNDS, Key, Walking, loses, planned
from probes.probe import HOST, Outcome, Probe, Result, Source, Try, pod
from probes.probe import probe as question

HOW = Walking(Names("google.com", "-"), pods=3, tries=20, deadline_s=2.0, smallest_loss=0.05)
OWN, OTHER, DOMAIN = Question("version.bind", "TXT", "CH"), Question("google.com"), Question("zju.edu.cn", "SOA")

Network = Callable[[Probe], Outcome]


def step(*questions: Question, name: str = "a", forwards: bool = True, stage: str = "endpoint to upstream") -> Step:
    needs = {question.name: ("behind",) for question in questions[1:] if forwards}
    return Step(name, stage, "node-0", "", 0, "172.25.4.1", 53, "", ("",), questions, needs)  # type: ignore[arg-type]


def play(
    steps: list[Step], network: Network, how: Walking = HOW, last: Network | None = None
) -> dict[Key, list[Result]]:
    """What is seen in all rounds; `last`: the network of the last one, where it is another."""
    seen: dict[Key, list[Result]] = {}
    for number in range(ROUNDS):
        if number == ROUNDS - 1:
            network = last or network
        for key, probe in planned(steps, seen, how).items():
            tries: list[Try] = [
                {"outcome": network(probe), "rtt_ms": 1.0, "rcode": None, "answers": [], "detail": ""}
                for _ in range(probe["tries"])
            ]
            seen.setdefault(key, []).append({"probe": probe, "carrier": "python3", "tries": tries})
    return seen


def losing(share: float, seed: int, protocol: str = "udp") -> Network:
    chance = random.Random(seed)
    return lambda probe: "timeout" if probe["protocol"] == protocol and chance.random() < share else "answered"


def lossy(seen: dict[Key, list[Result]]) -> bool:
    return any(loses(results, HOW.smallest_loss) for results in seen.values())


def tries(seen: dict[Key, list[Result]], protocol: str, rounds: int = ROUNDS) -> int:
    return sum(len(one["tries"]) for key, results in seen.items() if key[1] == protocol for one in results[:rounds])


@pytest.mark.parametrize("questions", [(OWN,), (OWN, OTHER, DOMAIN)], ids=["one name", "three names"])
@pytest.mark.parametrize(("share", "found"), [(0.05, 0.98), (0.2, 1.0), (0.5, 1.0), (1.0, 1.0)])
def test_a_loss_is_found(questions: tuple[Question, ...], share: float, found: float) -> None:
    played = [play([step(*questions)], losing(share, seed)) for seed in range(80)]
    assert mean(map(lossy, played)) >= found


@pytest.mark.parametrize("share", [0.0, 0.001])
def test_no_loss_is_invented(share: float) -> None:
    """Not even where a busy node loses a try out of a thousand."""
    played = [play([step(OWN, OTHER, DOMAIN)], losing(share, seed)) for seed in range(80)]
    assert not any(map(lossy, played))


def test_a_stall_is_no_loss() -> None:
    """Everything of one round is lost, and nothing afterwards: the node was busy, or its controller."""
    sent = 0

    def network(probe: Probe) -> Outcome:
        nonlocal sent
        sent += 1
        return "timeout" if sent <= 10 else "answered"

    assert not lossy(play([step(OWN)], network))


def test_a_fleet_that_overloads_who_answers_is_no_loss() -> None:
    """While all are asked at once a third is lost, twice; asked again alone, the few that lost something do not."""
    chance = random.Random(5)

    def busy(probe: Probe) -> Outcome:
        return "timeout" if probe["protocol"] != "icmp" and chance.random() < 0.3 else "answered"

    seen = play([step(OWN, name=str(number)) for number in range(20)], busy, last=lambda probe: "answered")
    assert max(map(len, seen.values())) == ROUNDS
    assert not lossy(seen)


def test_tries_grow_with_the_doubt() -> None:
    few = tries(play([step(OWN)], losing(0, 1)), "udp", rounds=1)
    assert few == HOW.tries
    assert tries(play([step(OWN)], losing(0, 1)), "udp") == 135
    assert tries(play([step(OWN)], losing(1.0, 1)), "udp") < 40
    assert mean(tries(play([step(OWN)], losing(0.5, seed)), "udp") for seed in range(50)) < 100
    assert max(tries(play([step(OWN)], losing(0.05, seed)), "udp") for seed in range(50)) <= 135 + 2 * MOST
    wide = Walking(HOW.names, 3, 20, 2.0, smallest_loss=0.5)
    assert tries(play([step(OWN)], losing(0, 1), wide), "udp") == 20


def test_a_healthy_hop_takes_two_execs() -> None:
    seen = play([step(OWN, OTHER)], losing(0, 1))
    assert max(map(len, seen.values())) == 2


def test_what_holds_a_process_of_dnsmasq_is_asked_little() -> None:
    """Twenty of them, waiting for a dead upstream, and dnsmasq answers nobody over TCP."""
    seen = play([step(OWN, OTHER, DOMAIN)], lambda probe: "answered" if probe["name"] == OWN.name else "timeout")
    for name in (OTHER.name, DOMAIN.name):
        assert [len(one["tries"]) for one in seen["a", "tcp", name]] == [HOLDING]
    only_tcp = play([step(OWN, OTHER)], losing(1.0, 1, "tcp"))
    assert [len(one["tries"]) for one in only_tcp["a", "tcp", OTHER.name]] == [HOLDING, HOLDING]


def test_a_stray_loss_over_both_protocols_is_asked_again() -> None:
    """One of two over TCP, and one of many over UDP: asked once more, both are answered."""
    stray = {"udp", "tcp"}

    def network(probe: Probe) -> Outcome:
        if probe["name"] == OTHER.name and probe["protocol"] in stray:
            stray.discard(probe["protocol"])
            return "timeout"
        return "answered"

    seen = play([step(OWN, OTHER)], network)
    assert [len(one["tries"]) for one in seen["a", "tcp", OTHER.name]] == [HOLDING, HOLDING]
    assert not lossy(seen)


def test_over_tcp_little_is_asked() -> None:
    """A share of lost packets does not show there, and every connection costs dnsmasq a process."""
    seen = play([step(OTHER)], losing(0, 1))
    assert tries(seen, "tcp") == HOW.tries
    assert tries(seen, "udp") == 135
    assert max(tries(play([step(OTHER)], losing(0.1, seed, "tcp")), "tcp") for seed in range(50)) <= 5 * HOW.tries


def test_a_great_fleet_does_not_flood_one_address() -> None:
    steps = [step(OWN, OTHER, name=str(number)) for number in range(2000)]
    sent = sum(probe["tries"] for probe in planned(steps, {}, HOW).values())
    assert sent <= MOST_TO_ONE + FEW * len(steps) * 5


@pytest.mark.parametrize("address", ["127.0.0.53", "::1", "169.254.20.10"])
def test_what_each_node_has_to_itself_is_asked_as_in_a_small_fleet(address: str) -> None:
    one = step(OWN)
    steps = [replace(one, id=str(each), node=f"node-{each}", destination=address) for each in range(2000)]
    alone = planned(steps[:1], {}, HOW).values()
    assert len(planned(steps, {}, HOW)) == 2000 * len(alone)
    assert {probe["tries"] for probe in planned(steps, {}, HOW).values()} == {probe["tries"] for probe in alone}


def test_what_could_not_be_sent_is_not_asked_again_and_no_loss() -> None:
    seen = play([step(OWN)], lambda _: "not sent")
    assert {len(results) for results in seen.values()} == {1}
    assert not lossy(seen)


@pytest.mark.parametrize(("source", "state"), [(pod("pod 172.26.2.9", 4242), "unknown"), (HOST, "loses")])
def test_what_a_pod_lost_that_has_ended_is_left_open(source: Source, state: str) -> None:
    """Its link is taken away while it asks, and then there is nobody who could be asked again."""

    def asked(answered: int, outcome: Outcome) -> Result:
        ends: list[Outcome] = ["answered" if number < answered else outcome for number in range(20)]
        tries: list[Try] = [
            {"outcome": end, "rtt_ms": None, "rcode": None, "answers": [], "detail": ""} for end in ends
        ]
        return {"probe": question("172.25.4.1", OWN.name, source=source), "carrier": "python3", "tries": tries}

    first, again = asked(8, "timeout"), asked(0, "not sent")
    (hop,) = hops([step(OWN)], {("a", "udp", OWN.name): [first, again]}, HOW.smallest_loss)
    assert (hop["state"], hop["losses"][0]["loses"]) == (state, state == "loses")
    (fine,) = hops([step(OWN)], {("a", "udp", OWN.name): [asked(20, "answered"), again]}, HOW.smallest_loss)
    assert fine["state"] == "ok"
