"""The cases that checks judge: every node as it was read, asked, and, where counters tell something, read again."""

from __future__ import annotations

import gevent
from pyinfra.api.host import Host

from checks.case import Case
from facts import snapshot
from facts.snapshot import Snapshot
from models import kube_services, node
from probes.count import sent
from probes.fleet import answers
from probes.probe import Result
from probes.questions import Asking, icmp_questions, questions
from reports import terminal

#: IPVS adds its counters up every two seconds (estimation in ip_vs_est.c): read sooner, they lag.
SETTLED = 3.0


def of(hosts: list[Host], missing: list[str], given: tuple[str, ...] | None, how: Asking) -> list[Case]:
    """
    Read and ask every node; one case each, by name.

    + hosts: the nodes that are reached
    + missing: names of the nodes that are not
    + given: the addresses on which nodes serve DNS, None to discover them
    """
    terminal.progress(f"reading {len(hosts)} nodes")
    fleet = snapshot.fleet(hosts) | dict.fromkeys(missing)
    vips = node.vips(fleet, given)
    services = kube_services.vips(fleet, {})
    terminal.progress("asking from pods and nodes")
    results = answers(
        {
            host: [
                *questions(read, vips[host.name], services, how),
                *icmp_questions(read, vips[host.name], how),
            ]
            for host in hosts
            if (read := fleet[host.name]) is not None
        }
    )
    later: dict[str, Snapshot | None] = {}
    if services:
        terminal.progress("reading the counters again")
        gevent.sleep(SETTLED)
        for host in hosts:
            snapshot.forget(host)
        later = snapshot.fleet(hosts)
    return [
        Case(
            name,
            fleet,
            vips[name],
            results.get(name, []),
            ipvs_deltas=_counted(fleet[name], later.get(name), services, results.get(name, [])),
            drops=_dropped(fleet[name], later.get(name)),
        )
        for name in sorted(fleet)
    ]


def _counted(
    before: Snapshot | None, after: Snapshot | None, services: list[str], results: list[Result]
) -> dict[str, tuple[int, int]]:
    """Per service the questions that were sent over UDP, and the connections that IPVS has counted since."""
    found: dict[str, tuple[int, int]] = {}
    for service in services if before and after else ():
        first = kube_services.connections(before, service) if before else None
        second = kube_services.connections(after, service) if after else None
        asked = [r for r in results if (r["probe"]["destination"], r["probe"]["protocol"]) == (service, "udp")]
        if first is not None and second is not None and asked:
            found[service] = (sum(map(sent, asked)), second - first)
    return found


def _dropped(before: Snapshot | None, after: Snapshot | None) -> int | None:
    first = before["conntrack"]["value"] if before else None
    second = after["conntrack"]["value"] if after else None
    if not first or not second or not first["cpus"] or not second["cpus"]:
        return None
    return sum(cpu.get("drop", 0) for cpu in second["cpus"]) - sum(cpu.get("drop", 0) for cpu in first["cpus"])
