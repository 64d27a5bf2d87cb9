"""Walk a query's path: ask every hop from where its packets leave, and go on asking where that leaves a doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyinfra.api.host import Host

from checks import hops as seen_hops
from checks.diagnosis import Hop
from facts.snapshot import Snapshot
from models import kube_services, path
from probes.fleet import answers
from probes.hops import ROUNDS, Key, Walking, planned
from probes.probe import Probe, Result


class Walk(NamedTuple):
    """
    What was seen.

    + results: per node those of the probes that were to be asked `also`, in their order
    + every: per node all results, the hops' own included: what its counters have counted
    """

    hops: list[Hop]
    results: dict[str, list[Result]]
    every: dict[str, list[Result]]


def walk(
    hosts: Sequence[Host],
    fleet: Mapping[str, Snapshot | None],
    vips: Mapping[str, Sequence[str]],
    services: Sequence[str],
    endpoints: kube_services.Endpoints,
    walking: Walking,
    also: Mapping[Host, Sequence[Probe]] | None = None,
) -> Walk:
    """
    Ask along every hop, in at most `probes.hops.ROUNDS` execs per node.

    + hosts: the nodes that are reached; fleet: what was read of them and of the others
    + vips: `models.node.vips`; services: the DNS services' addresses; endpoints: what the EndpointSlices say of them
    + also: further probes that go along in the first exec
    """
    also = also or {}
    steps = path.steps(fleet, vips, services, endpoints, walking.names, walking.pods)
    nodes = {step.id: step.node for step in steps}
    seen: dict[Key, list[Result]] = {}
    results: dict[str, list[Result]] = {}
    every: dict[str, list[Result]] = {}
    for number in range(ROUNDS):
        plan = planned(steps, seen, walking)
        keys: dict[Host, list[Key]] = {host: [key for key in plan if nodes[key[0]] == host.name] for host in hosts}
        extra = also if number == 0 else {}
        asking = {host: [*extra.get(host, ()), *(plan[key] for key in keys[host])] for host in hosts}
        if not any(asking.values()):
            break
        answered = answers(asking)
        for host in hosts:
            found = answered[host.name]
            every[host.name] = [*every.get(host.name, []), *found]
            count = len(extra.get(host, ()))
            if number == 0:
                results[host.name] = found[:count]
            for key, result in zip(keys[host], found[count:], strict=False):
                seen.setdefault(key, []).append(result)
    return Walk(seen_hops.hops(steps, seen, walking.smallest_loss), results, every)
