"""Look at the fleet: read, ask along every hop, read the counters again; and, if something is wrong, what happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import gevent
from pyinfra.api.host import Host

from checks.diagnosis import Hop
from checks.timeline import timeline
from deploys import endpoints, evidence, hops
from deploys import policy as policies
from deploys.bundle import Recorded
from deploys.policy import Policy
from facts import counters, snapshot
from facts.snapshot import Snapshot
from models import kube_services, node, path
from probes.hops import planned
from probes.probe import Probe
from probes.questions import icmp_questions, questions
from reports import terminal

#: IPVS adds its counters up every two seconds (estimation in ip_vs_est.c): read sooner, they lag.
SETTLED = 3.0


def look(hosts: list[Host], missing: Sequence[str], policy: Policy) -> Recorded:
    """
    Everything that is judged. Per node one exec to read, `probes.hops.ROUNDS` at most to ask, and one to count.

    + hosts: the nodes that are reached; missing: names of those that are not
    """
    started = now()
    terminal.progress(f"reading {len(hosts)} nodes")
    return ask(hosts, snapshot.fleet(hosts) | dict.fromkeys(missing), missing, policy, started)


def ask(
    hosts: Sequence[Host],
    fleet: dict[str, Snapshot | None],
    missing: Sequence[str],
    policy: Policy,
    started: str,
) -> Recorded:
    """
    Ask from nodes that have been read, and read their counters again.

    + hosts: those that are asked from; fleet: what was read, of others as well
    + missing: names of nodes that are not reached; started: when it began (`now`)
    """
    seen = endpoints.of(hosts[0].state)
    vips = node.vips(fleet, policy.dns_vips)
    services = kube_services.vips(fleet, seen.endpoints, policy.dns_services)

    terminal.progress("asking from pods and nodes, hop by hop")
    walking = policies.walking(policy)
    steps = path.steps(fleet, vips, services, seen.endpoints, walking.names, walking.pods)
    nodes = {step.id: step.node for step in steps}
    along = {(nodes[key[0]], *_key(probe)) for key, probe in planned(steps, {}, walking).items()}
    more = {
        host: [probe for probe in probes if (host.name, *_key(probe)) not in along]
        for host, probes in asked(hosts, fleet, vips, services, policy).items()
    }
    walk = hops.walk(hosts, steps, walking, more)

    terminal.progress("reading the counters again")
    if services:
        gevent.sleep(SETTLED)
    later = counters.fleet([host for host in hosts if fleet[host.name] is not None])
    return Recorded(
        started=started,
        finished=now(),
        nodes=troubles(fleet, missing, [host.name for host in hosts if snapshot.late(host)]),
        fleet=fleet,
        results=walk.results,
        policy=asdict(policy),
        evidence={
            "hops": walk.hops,
            "counters": later,
            "endpoints": {vip: sorted(ends) for vip, ends in seen.endpoints.items()},
            "unseen": [seen.unseen] if seen.unseen and _kubernetes(fleet) else [],
        },
    )


def look_back(hosts: list[Host], seen: Recorded, walked: Sequence[Hop], policy: Policy) -> None:
    """
    Add what the nodes' logs and files tell of the past, and captures where the policy wants them. One exec each.

    + walked: the hops as they were judged
    """
    terminal.progress("reading what changed, and CoreDNS's logs")
    past = evidence.histories([host for host in hosts if seen.fleet.get(host.name) is not None])
    seen.evidence["timeline"] = timeline(past, walked, seen.started)
    seen.evidence["logs"] = evidence.coredns(past, policies.cluster(hosts[0]), policy.dns_namespace)
    if policy.capture:
        terminal.progress(f"capturing packets to {policy.capture}")
        how = policies.asking(policy)
        seen.evidence["captures"] = evidence.captures(hosts, seen.fleet, walked, how, Path(policy.capture))


def asked(
    hosts: Iterable[Host],
    fleet: Mapping[str, Snapshot | None],
    vips: Mapping[str, Sequence[str]],
    services: Sequence[str],
    policy: Policy,
) -> dict[Host, list[Probe]]:
    """What the checks want to know of each node that was read, whether it is on anybody's way or not."""
    how = policies.asking(policy)
    return {
        host: [*questions(read, vips[host.name], list(services), how), *icmp_questions(read, vips[host.name], how)]
        for host in hosts
        if (read := fleet[host.name]) is not None
    }


def troubles(fleet: Mapping[str, Snapshot | None], missing: Sequence[str], late: Sequence[str] = ()) -> dict[str, str]:
    """Per node, in the inventory's order, why it is not known; "" for those that are."""
    found = {name: "" if read is not None else "it was reached, and could not be read" for name, read in fleet.items()}
    found |= dict.fromkeys(late, "it was reached, and had not answered in time (node_deadline in group_data/all.py)")
    return found | dict.fromkeys(missing, "it could not be reached")


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _key(probe: Probe) -> tuple[str, ...]:
    """What makes two probes one question, however often it is asked."""
    source = probe["source"]
    asked = (probe["destination"], str(probe["port"]), probe["protocol"], probe["name"], probe["rdtype"])
    return (source["netns"], source["address"], *asked, probe["rdclass"])


def _kubernetes(fleet: Mapping[str, Snapshot | None]) -> bool:
    return any(read is not None and read["kube_proxy"]["value"] for read in fleet.values())
