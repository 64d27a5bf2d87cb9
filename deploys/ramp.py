"""A load test's ramp on one node: the same question from the host and from a pod, faster and faster, within bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host

from facts.addresses import ip_address, of_endpoint
from facts.snapshot import Snapshot
from models import kube_services, node
from probes import blast
from probes.blast import Blast, Load, Measured
from probes.blast_compare import Comparison, compare, overloaded
from probes.blast_sender import longest
from probes.probe import HOST, Source, pod, probe

#: Share of the connection tracking table that may be in use afterwards: each question is a flow for 30 s and more.
FULL = 0.5
#: Seconds above the loads' own, for one exec over SSH.
SLACK = 30


@dataclass(frozen=True)
class Ramp:
    """What is asked, and how fast.

    + rates: questions per second, one after the other; seconds: for each of them
    + name: type A; None: version.bind (class CH) at a node's own address, `service_name` at the cluster's DNS service
    + deadline_s: how long an answer may take
    """

    rates: tuple[int, ...]
    seconds: float
    name: str | None
    service_name: str
    deadline_s: float


def strangers(given: Sequence[str] | None, fleet: Mapping[str, Snapshot | None]) -> list[str]:
    """Those of the addresses that no node of the run has: no load is put on anybody else."""
    own = {
        ip_address(address["address"])
        for snapshot in fleet.values()
        if snapshot
        for interface in snapshot["interfaces"]["value"]
        for address in interface["addresses"]
    }
    return [address for address in given or () if ip_address(address) not in own]


def plan(snapshot: Snapshot, vips: Sequence[str], services: Sequence[str], ramp: Ramp) -> list[list[Load]] | str:
    """The loads of one node: per address a list, with the host's and the pod's of one rate after each other.

    A sentence where nothing can be compared, or where it would be too much.

    + vips: the node's own addresses that serve DNS; services: the cluster's DNS services, for a node with kube-proxy
    """
    wanted = [(vip, ramp.name or "version.bind", ramp.name is None) for vip in vips]
    if snapshot["kube_proxy"]["value"]:
        wanted += [(service, ramp.name or ramp.service_name, False) for service in services]
    if not wanted:
        return "it serves no DNS address, and knows no DNS service of the cluster"
    ladders: list[list[Load]] = []
    for address, name, chaos in wanted:
        source = _pod(snapshot, address, services)
        if source is None:
            return f"no pod of this node can ask {address}"
        rdtype, rdclass = ("TXT", "CH") if chaos else ("A", "IN")
        ladders.append(
            [
                {
                    "question": probe(
                        address,
                        name,
                        rdtype,
                        rdclass=rdclass,
                        source=asker,
                        tries=1,
                        deadline_s=ramp.deadline_s,
                    ),
                    "rate": rate,
                    "seconds": ramp.seconds,
                }
                for rate in ramp.rates
                for asker in (HOST, source)
            ]
        )
    loads = [load for ladder in ladders for load in ladder]
    return blast.refusal(loads) or _no_room(snapshot, loads) or ladders


def climb(host: Host, ladder: Sequence[Load]) -> Iterator[Comparison]:
    """One exec per rate; a rate that overloads is the last one."""
    for of_host, of_pod in zip(ladder[::2], ladder[1::2], strict=True):
        comparison = compare(host.name, of_host, _ask(host, [of_host, of_pod]), len(ladder) // 2)
        yield comparison
        if overloaded(comparison):
            return


def _ask(host: Host, loads: list[Load]) -> list[Measured]:
    # Either load may have to wait for its last answers, and be ended by timeout(1).
    limit = sum(longest(load["seconds"]) + load["question"]["deadline_s"] for load in loads) + SLACK
    try:
        found = get_fact(
            host.state, host, Blast, kwargs={"loads": loads, "_timeout": int(limit)}, apply_failed_hosts=False
        )
        if found:
            return cast("list[Measured]", found)
        why = "the node did not answer"
    except Exception as error:
        why = str(error)
    return [blast.nothing(load, why) for load in loads]


def _pod(snapshot: Snapshot, address: str, services: Sequence[str]) -> Source | None:
    """A pod to ask from, not one that is behind the service: what comes back to its sender is another matter."""
    behind = {
        of_endpoint(target)[0]
        for service in services
        for protocol in kube_services.PROTOCOLS
        for target in kube_services.targets("", {"": snapshot}, {}, service, protocol)
    }
    version = ip_address(address).version
    for asker in node.askers(snapshot):
        if asker.kubernetes and ip_address(asker.address).version == version and asker.address not in behind:
            return pod(asker.name, asker.pid, address=asker.address)
    return None


def _no_room(snapshot: Snapshot, loads: Sequence[Load]) -> str:
    """Whether the questions would fill the node's connection tracking table: a full one drops everybody's new flows."""
    table = snapshot["conntrack"]["value"]
    wanted = sum(map(blast.planned, loads))
    if not table or table["count"] + wanted <= table["maximum"] * FULL:
        return ""
    return (
        f"{wanted} questions are as many flows, and conntrack has {table['count']} of {table['maximum']}: "
        f"more than {FULL:.0%} would be in use"
    )
