"""What a check is given: one node as it was read and asked, among the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from checks.finding import Finding, Status
from facts.dnsmasq import Instance
from facts.snapshot import Snapshot
from models import node
from models.needs import Forecast, forecast
from probes.probe import Result

#: What the model needs of a node; what could not be read of it makes a check unknown.
_READ = ("interfaces", "routes", "sockets", "pods", "dnsmasq")


@dataclass(frozen=True)
class Case:
    """One node under examination.

    + fleet: every node's snapshot, None for a node that could not be read
    + vips: this node's own addresses that serve DNS
    + results: what the probes from this node saw
    """

    name: str
    fleet: Mapping[str, Snapshot | None]
    vips: Sequence[str]
    results: Sequence[Result]

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
        host = node.host(self.snapshot, instance["pid"])
        return forecast(instance["options"], host, node.needs(self.name, self.fleet, vip))

    def unread(self) -> str:
        """Why the node is not known well enough, "" if it is."""
        if self.fleet[self.name] is None:
            return "the node could not be read"
        for what in _READ:
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
