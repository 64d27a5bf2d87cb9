"""Ask from many nodes at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from typing import cast

import gevent
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host

from facts.parallel import each
from facts.snapshot import deadline
from probes.carry import RATE, longest
from probes.dns import Answers
from probes.probe import Probe, Result, shared

#: Seconds that one node's probes may take altogether, over SSH.
TIMEOUT = 180
#: Seconds over which one node's questions are spread at most, for the sake of a server that nodes share.
_SPREAD = 60


def answers(questions: Mapping[Host, Sequence[Probe]], rate: int = RATE) -> dict[str, list[Result]]:
    """What each host's probes saw, by host name, one exec per host; no results where a host did not answer at all.

    + rate: questions per second that a node sends, and that one address gets, at most
    """
    found: dict[str, list[Result]] = {host.name: [] for host in questions}
    asking = [host for host, probes in questions.items() if probes]
    starts = dict(zip(asking, delays([questions[host] for host in asking], rate), strict=True))
    began = time.monotonic()

    def ask(host: Host) -> list[Result]:
        gevent.sleep(max(0.0, began + starts[host] - time.monotonic()))
        return _ask(host, questions[host], rate)

    return found | each(asking, ask)


def delays(questions: Sequence[Sequence[Probe]], rate: int) -> list[float]:
    """Seconds that each node waits, in their order, so that a server which they share is not asked faster than that."""
    asked: Counter[str] = Counter()
    found = []
    for probes in questions:
        mine = Counter[str]()
        for probe in probes:
            if shared(probe["destination"]):
                mine[probe["destination"]] += probe["tries"]
        found.append(max((asked[address] for address in mine), default=0) / rate)
        asked.update(mine)
    return found


def side_by_side(probes: Sequence[Probe], rate: int, nodes: int, own: Collection[str] = ()) -> int:
    """Questions per second for each of so many nodes that ask the same at once, so that a server gets `rate` of them.

    + own: addresses that are each node's own, whatever they look like

    Never so few that they take longer than a minute: what is being proven waits for them, with its timer running.
    """
    asked: Counter[str] = Counter()
    for probe in probes:
        if shared(probe["destination"]) and probe["destination"] not in own:
            asked[probe["destination"]] += probe["tries"]
    if not asked:
        return rate
    every = sum(probe["tries"] for probe in probes)
    return min(rate, max(rate * every // (nodes * max(asked.values())), ceil(every / _SPREAD)))


def _ask(host: Host, probes: Sequence[Probe], rate: int) -> list[Result]:
    # A node that says nothing for longer than its questions can take, and no answer comes, holds up all others.
    try:
        results = get_fact(
            host.state,
            host,
            Answers,
            kwargs={
                "probes": list(probes),
                "rate": rate,
                "_timeout": min(TIMEOUT, longest(probes, rate) + deadline(host)),
            },
            apply_failed_hosts=False,
        )
    except Exception as error:
        host.log(f"could not be asked from: {error}")
        return []
    return cast("list[Result]", results or [])
