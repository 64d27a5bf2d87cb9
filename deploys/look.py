"""Look at the fleet: read, ask along every hop, read the counters again; and, if something is wrong, what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    started = _now()
    terminal.progress(f"reading {len(hosts)} nodes")
    fleet = snapshot.fleet(hosts) | dict.fromkeys(missing)
    seen = endpoints.of(hosts)
    vips = node.vips(fleet, policy.dns_vips)
    services = kube_services.vips(fleet, seen.endpoints)

    terminal.progress("asking from pods and nodes, hop by hop")
    walking = policies.walking(policy)
    steps = path.steps(fleet, vips, services, seen.endpoints, walking.names, walking.pods)
    along = {_key(probe) for probe in planned(steps, {}, walking).values()}
    more = {
        host: [probe for probe in _questions(read, vips[host.name], services, policy) if _key(probe) not in along]
        for host in hosts
        if (read := fleet[host.name]) is not None
    }
    walk = hops.walk(hosts, fleet, vips, services, seen.endpoints, walking, more)

    terminal.progress("reading the counters again")
    if services:
        gevent.sleep(SETTLED)
    later = counters.fleet([host for host in hosts if fleet[host.name] is not None])
    return Recorded(
        started=started,
        finished=_now(),
        nodes={name: _trouble(name, fleet, missing) for name in sorted(fleet)},
        fleet=fleet,
        results=walk.every,
        policy=asdict(policy),
        evidence={
            "hops": walk.hops,
            "counters": later,
            "endpoints": {vip: sorted(ends) for vip, ends in seen.endpoints.items()},
            "unseen": [seen.unseen] if seen.unseen and _kubernetes(fleet) else [],
        },
    )


def look_back(hosts: list[Host], seen: Recorded, policy: Policy) -> None:
    """Add what the nodes' logs and files tell of the past, and captures where the policy wants them. One exec each."""
    walked: list[Hop] = seen.evidence["hops"]
    terminal.progress("reading what changed, and CoreDNS's logs")
    past = evidence.histories(hosts)
    seen.evidence["timeline"] = timeline(past, walked, seen.started)
    seen.evidence["logs"] = evidence.coredns(past, policies.cluster(hosts[0]), policy.dns_namespace)
    if policy.capture:
        terminal.progress(f"capturing packets to {policy.capture}")
        how = policies.asking(policy)
        seen.evidence["captures"] = evidence.captures(hosts, seen.fleet, walked, how, Path(policy.capture))


def _questions(read: Snapshot, vips: Sequence[str], services: Sequence[str], policy: Policy) -> list[Probe]:
    """What the checks want to know, whether it is on anybody's way or not."""
    how = policies.asking(policy)
    return [*questions(read, vips, list(services), how), *icmp_questions(read, vips, how)]


def _key(probe: Probe) -> tuple[str, ...]:
    """What makes two probes one question, however often it is asked."""
    source = probe["source"]
    asked = (probe["destination"], str(probe["port"]), probe["protocol"], probe["name"], probe["rdtype"])
    return (source["netns"], source["address"], *asked, probe["rdclass"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _trouble(name: str, fleet: Mapping[str, Snapshot | None], missing: Sequence[str]) -> str:
    if name in missing:
        return "it could not be reached"
    return "" if fleet[name] is not None else "it was reached, and could not be read"


def _kubernetes(fleet: Mapping[str, Snapshot | None]) -> bool:
    return any(read is not None and read["kube_proxy"]["value"] for read in fleet.values())
