"""Which questions are sent for the steps of a path, and how many: few at first, more where that leaves a doubt.

Every step is asked a few times. What lost nothing is asked on until a share of lost tries that matters would have
shown; what lost something is asked once more, so often that it would be seen again: a single try may have been lost to
the node's own load, and is not yet a hop that loses. What has lost some tries twice and not nearly all of them is asked
a third time, when nothing else is: a fleet that asks everything at once may have overloaded who has to answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models import loss
from models.path import Names, Step
from probes.carry import RATE
from probes.count import lost, sent
from probes.probe import HOST, Probe, Protocol, Result, Source, pod, probe, shared

#: Execs per node, at most.
ROUNDS = 3

#: How sure a loss would be seen, and be seen again, and the most tries that this is given.
SURE = 0.999
SEEN_AGAIN = 0.9999
MOST = 250
#: A share of lost tries that no load of our own making explains.
NEARLY_ALL = 0.9
#: Questions of one kind, so that each name is asked more than once.
FEW = 3
#: Questions that one round of the whole fleet sends to one server, above FEW of each kind.
MOST_TO_ONE = 6000
#: TCP questions of one kind that dnsmasq has to hand on. It answers TCP in 20 processes at most (MAX_PROCS in its
#: config.h), and one that waits for a dead upstream stays some seconds: more of them would be an outage of our making.
HOLDING = 2

#: A step's id, the protocol, and the name that was asked for.
Key = tuple[str, Protocol, str]
#: What was seen of each, one result per round in which it was asked.
Seen = Mapping[Key, Sequence[Result]]


@dataclass(frozen=True)
class Walking:
    """
    How the steps of a path are asked.

    + names: what is asked for; pods: of each node, at most so many are asked from
    + tries: of each step and protocol in the first round; deadline_s: seconds for each
    + smallest_loss: a share of lost tries that must not be missed
    + rate: questions per second that a node sends, and that one address gets, at most
    """

    names: Names
    pods: int
    tries: int
    deadline_s: float
    smallest_loss: float
    rate: int = RATE


def planned(steps: Sequence[Step], seen: Seen, how: Walking) -> dict[Key, Probe]:
    """The next round's probes: of every step in the first, then of those about which too little is known."""
    wanted = first(steps, how) if not seen else further(steps, seen, how)
    crowd = Counter[str]()
    by_id = {step.id: step for step in steps}
    servers = {step.id: _server(step) for step in steps}
    for key, count in wanted.items():
        crowd[servers[key[0]]] += count
    found: dict[Key, Probe] = {}
    for key, count in wanted.items():
        share = min(1.0, MOST_TO_ONE / crowd[servers[key[0]]])
        found[key] = _probe(by_id[key[0]], key, max(min(count, FEW), math.floor(count * share)), how)
    return found


def _server(step: Step) -> str:
    return step.destination if shared(step.destination) else f"{step.destination} on {step.node}"


def first(steps: Iterable[Step], how: Walking) -> dict[Key, int]:
    """Tries of the first round: `how.tries` for each step and protocol, over its names; and a few echo requests."""
    found: dict[Key, int] = {}
    for step in steps:
        for protocol in _PROTOCOLS:
            names = [question.name for question in step.questions]
            found |= _spread(step, protocol, names, how.tries)
            found |= {(step.id, protocol, name): HOLDING for name in names if _holds(step, protocol, name)}
        if step.questions and _echoes(step):
            found[step.id, "icmp", ""] = FEW
    return found


def further(steps: Iterable[Step], seen: Seen, how: Walking) -> dict[Key, int]:
    """Tries of a later round; none for what is known well enough."""
    found: dict[Key, int] = {}
    for step in steps:
        for protocol in _PROTOCOLS:
            kinds = {question.name: seen.get((step.id, protocol, question.name), ()) for question in step.questions}
            if any(_sure(results) and loses(results, how.smallest_loss) for results in kinds.values()):
                # It loses, and nothing but the digits of the share would be gained.
                continue
            fresh = [name for name, results in kinds.items() if _doubtful(results)]
            again = _again([one for name in fresh for one in kinds[name]])
            found |= _spread(step, protocol, fresh, min(again, 2 * how.tries) if protocol == "tcp" else again)
            for name in fresh:
                if _holds(step, protocol, name) and not _mostly_lost(seen.get((step.id, "udp", name), ())):
                    found[step.id, protocol, name] = HOLDING
            clean = [name for name, results in kinds.items() if sum(map(sent, results)) and not any(map(lost, results))]
            missing = loss.tries_to_see(how.smallest_loss, SURE) - sum(
                sent(one) for name in clean for one in kinds[name]
            )
            if missing > 0 and protocol == "udp":
                # TCP sends again what was lost, so that a share does not show there; and each connection is a process
                # of dnsmasq, or one of the few that others' servers take at once.
                found |= _spread(step, protocol, clean, missing)
    return found


def _spread(step: Step, protocol: Protocol, names: Iterable[str], tries: int) -> dict[Key, int]:
    free = [name for name in names if not _holds(step, protocol, name)]
    return {(step.id, protocol, name): max(FEW, math.ceil(tries / len(free))) for name in free}


def _doubtful(results: Sequence[Result]) -> bool:
    """Whether something was lost when it was asked last, and it may not be so when it is asked again."""
    return bool(results) and bool(lost(results[-1])) and not _sure(results)


def _sure(results: Sequence[Result]) -> bool:
    """Whether what was lost was lost again, and that was nearly all of it, or asked when little else was."""
    losing = sum(bool(lost(result)) for result in results)
    all_lost, all_sent = sum(map(lost, results)), sum(map(sent, results))
    return losing >= ROUNDS or (losing > 1 and all_lost >= NEARLY_ALL * all_sent)


def _mostly_lost(results: Sequence[Result]) -> bool:
    """Whether its server hardly answers: then another connection would only wait there."""
    return 2 * sum(map(lost, results)) > sum(map(sent, results))


def _again(results: Sequence[Result]) -> int:
    """So many tries that what was lost for the first time is lost again, if it was no stray."""
    low, _ = loss.interval(sum(map(lost, results)), sum(map(sent, results)))
    return min(loss.tries_to_see(low, SEEN_AGAIN), MOST) if low else 0


def loses(results: Sequence[Result], smallest_loss: float) -> bool:
    """Whether what was seen is a loss: more than a stray try, and seen again when it was asked again."""
    all_lost, all_sent = sum(map(lost, results)), sum(map(sent, results))
    asked = [result for result in results if sent(result)]
    if not all_lost or not lost(asked[-1]):
        return False
    # A tenth of what matters: a try or two of some hundred are lost on any busy node.
    return loss.interval(all_lost, all_sent)[0] > smallest_loss / 10


def left_open(results: Sequence[Result]) -> bool:
    """Whether a pod lost something once, and could not be asked again: it has ended, maybe while it was asked."""
    return results[-1]["probe"]["source"] != HOST and not sent(results[-1]) and lost_once(results)


def lost_once(results: Sequence[Result]) -> bool:
    """Whether something was lost, and in one round only."""
    return sum(bool(lost(result)) for result in results) == 1


_PROTOCOLS: tuple[Protocol, ...] = ("udp", "tcp")


def _holds(step: Step, protocol: Protocol, name: str) -> bool:
    """Whether a question may hold one of dnsmasq's processes: over TCP, for a name that somebody else has to answer."""
    return protocol == "tcp" and name != step.questions[0].name and bool(step.needs.get(name))


def _echoes(step: Step) -> bool:
    """Whether an echo request tells something: a service's address need not answer it, and a stub is on the node."""
    return step.stage != "host to stub" and not step.needs.get(step.questions[0].name)


def _probe(step: Step, key: Key, tries: int, how: Walking) -> Probe:
    _, protocol, name = key
    source = _source(step)
    if protocol == "icmp":
        return probe(step.destination, source=source, protocol="icmp", tries=tries, deadline_s=1.0)
    question = next(question for question in step.questions if question.name == name)
    return probe(
        step.destination,
        question.name,
        question.rdtype,
        rdclass=question.rdclass,
        source=source,
        protocol=protocol,
        port=step.port,
        tries=tries,
        deadline_s=how.deadline_s,
        rcodes=question.rcodes,
    )


def _source(step: Step) -> Source:
    return pod(f"pod {step.source}", step.pid, address=step.source) if step.source else HOST
