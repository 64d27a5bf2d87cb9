"""What a check is given: one node as it was read and asked, among the fleet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from checks.finding import Finding, Status
from facts.addresses import of_endpoint
from facts.dnsmasq import Instance
from facts.snapshot import Snapshot
from models import kube_services, node
from models.needs import Forecast, forecast
from models.resolvers import Fleet
from probes.count import received
from probes.probe import Result

#: What the model needs of a node; what could not be read of it makes a check unknown.
_READ = ("interfaces", "routes", "sockets", "pods", "dnsmasq")


@dataclass(frozen=True)
class Case:
    """One node under examination.

    + fleet: every node's snapshot, None for a node that could not be read
    + vips: this node's own addresses that serve DNS
    + results: what the probes from this node saw; strays: those of them that lost tries, and none when asked again
    + endpoints: the ready endpoints of DNS services by their address, as the API server knows them; empty: not asked
    + ipvs_deltas: per address of a DNS service the questions that were sent over UDP, and the connections that this
      node's IPVS counted meanwhile. IPVS adds up every two seconds: read three seconds after the last question
    + drops, clashes: packets that the node's conntrack dropped between two reads, because its table had no room, and
      because another packet entered their flow first (`models.conntrack`); None without a second read
    + bad_checksums: UDP datagrams that the node threw away between two reads, None without a second one
    + among: the resolvers of the fleet, worked out once for the cases of a run; None: for this case alone
    """

    name: str
    fleet: Mapping[str, Snapshot | None]
    vips: Sequence[str]
    results: Sequence[Result]
    strays: Sequence[Result] = ()
    endpoints: kube_services.Endpoints = field(default_factory=dict)
    ipvs_deltas: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    drops: int | None = None
    clashes: int | None = None
    bad_checksums: int | None = None
    among: Fleet | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The node as it was read."""
        read = self.fleet[self.name]
        assert read is not None, f"{self.name} was not read"
        return read

    @cached_property
    def served(self) -> list[tuple[str, Instance | None]]:
        """Each address that serves DNS, with the dnsmasq that owns it."""
        return [(vip, node.serving(self.snapshot, vip)) for vip in self.vips]

    def forecast(self, vip: str, instance: Instance) -> Forecast:
        """What dnsmasq's configuration on disk makes of everybody who asks this address."""
        key = (vip, instance["pid"])
        if key not in self._forecasts:
            host = node.host(self.snapshot, instance["pid"])
            self._forecasts[key] = forecast(instance["options"], host, node.needs(self.name, self.fleet, vip))
        return self._forecasts[key]

    @cached_property
    def _forecasts(self) -> dict[tuple[str, int], Forecast]:
        return {}

    @cached_property
    def resolvers(self) -> Fleet:
        """Who answers DNS in the fleet, and who asks whom."""
        if self.among:
            return self.among
        # What the other nodes' dnsmasqs serve, as discovered; of this one as the case has it.
        vips = node.vips(self.fleet, None) | {self.name: tuple(self.vips)}
        return Fleet(self.fleet, vips, kube_services.vips(self.fleet, self.endpoints), self.endpoints)

    @property
    def dns_services(self) -> list[str]:
        """The addresses of the cluster's DNS services."""
        return self.resolvers.services

    def targets(self, vip: str, protocol: str) -> set[str]:
        """Where queries for a DNS service ought to go ("10.244.0.11:53"), empty if nothing tells."""
        return kube_services.targets(self.name, self.fleet, self.endpoints, vip, protocol)

    def answered(self, end: str) -> bool:
        """Whether an endpoint ("10.244.0.11:53") has answered a question of this node."""
        at = of_endpoint(end)
        return any(
            received(result)
            for result in self.results
            if (result["probe"]["destination"], result["probe"]["port"]) == at and result["probe"]["protocol"] != "icmp"
        )

    def alive(self, end: str) -> bool:
        """Whether an endpoint has answered this node, or is a pod that runs CoreDNS."""
        return of_endpoint(end)[0] in self.resolvers.programs or self.answered(end)

    def unread(self, needed: Iterable[str] = _READ) -> str:
        """Why the node is not known well enough, "" if it is. A snapshot of an earlier version lacks sections."""
        if self.fleet[self.name] is None:
            return "the node could not be read"
        for what in needed:
            if what not in self.snapshot:
                return f"{what}: not in this snapshot"
            reading = self.snapshot[what]  # type: ignore[literal-required]
            if reading["state"] not in ("value", "empty"):
                return f"{what}: {reading['state']}: {reading['detail']}"
        return ""

    def finding(
        self, check: str, title: str, status: Status, sentence: str, evidence: Sequence[str] = (), operation: str = ""
    ) -> Finding:
        """A finding about this node."""
        return {
            "check": check,
            "title": title,
            "node": self.name,
            "status": status,
            "sentence": sentence,
            "evidence": list(evidence),
            "operation": operation,
        }
