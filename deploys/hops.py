"""Walk a query's path: ask every hop from where its packets leave, and go on asking where that leaves a doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import gevent
from pyinfra.api.host import Host

from checks import hops as seen_hops
from checks.diagnosis import Hop
from models.path import Step
from probes.count import lost, sent
from probes.fleet import answers
from probes.hops import ROUNDS, Key, Walking, planned
from probes.probe import Probe, Result

#: Seconds before the last round, if those are asked who ask others. systemd-resolved joins all who ask the same to one
#: query, and waits 5 s before it sends that again (DNS_TIMEOUT_USEC in resolved-dns-transaction.c): one packet that was
#: lost is many tries that were.
CALM = 6.0


class Walk(NamedTuple):
    """The hops, and per node every result, what was asked besides included: what its counters have counted."""

    hops: list[Hop]
    results: dict[str, list[Result]]


def walk(
    hosts: Sequence[Host], steps: Sequence[Step], walking: Walking, also: Mapping[Host, Sequence[Probe]] | None = None
) -> Walk:
    """
    Ask along every hop, in at most `probes.hops.ROUNDS` execs per node.

    + hosts: the nodes that are reached; steps: of `models.path`
    + also: further probes that go along in the first exec, and again where some of their tries were lost
    """
    extra = {host: list((also or {}).get(host, ())) for host in hosts}
    by_id = {step.id: step for step in steps}
    seen: dict[Key, list[Result]] = {}
    every: dict[str, list[Result]] = {}
    for number in range(ROUNDS):
        plan = planned(steps, seen, walking)
        of_node: dict[str, list[Key]] = {}
        for key in plan:
            of_node.setdefault(by_id[key[0]].node, []).append(key)
        keys = {host: of_node.get(host.name, []) for host in hosts}
        asking = {host: [*extra[host], *(plan[key] for key in keys[host])] for host in hosts}
        if not any(asking.values()):
            break
        if number == ROUNDS - 1 and any(by_id[key[0]].needs.get(key[2]) for key in plan):
            gevent.sleep(CALM)
        answered = answers(asking, walking.rate)
        for host in hosts:
            found = answered[host.name]
            every[host.name] = [*every.get(host.name, []), *found]
            for key, result in zip(keys[host], found[len(extra[host]) :], strict=False):
                seen.setdefault(key, []).append(result)
            extra[host] = [one["probe"] for one in found[: len(extra[host])] if 0 < lost(one) < sent(one)]
    return Walk(seen_hops.hops(steps, seen, walking.smallest_loss), every)
