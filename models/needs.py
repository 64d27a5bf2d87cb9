"""Who has to be answered by a node's dnsmasq, and who is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facts.dnsmasq_options import Option
from models.dnsmasq import Outcome, Query, Start, Verdict, answers, starts
from models.dnsmasq_config import Configuration, configuration
from models.host import Host


@dataclass(frozen=True)
class Need:
    """One way in which a server is asked.

    + who: for people: "pod client (172.26.2.145)", "LAN 172.25.4.11 (node-1)", "the host itself"
    + required: it must be answered after a change; otherwise it must only not get worse
    """

    who: str
    query: Query
    required: bool = True

    def __str__(self) -> str:
        return f"{self.who} -> {self.query.destination} {self.query.protocol.upper()}"


@dataclass(frozen=True)
class Forecast:
    """What a configuration does on a host: whether dnsmasq starts, and what becomes of each need."""

    configuration: Configuration
    start: Start
    verdicts: tuple[tuple[Need, Verdict], ...]

    def answered(self) -> frozenset[Need]:
        """The needs that get an answer to every name."""
        return frozenset(need for need, verdict in self.verdicts if is_answered(verdict))

    def lost(self) -> list[tuple[Need, Verdict]]:
        """The required needs that get none, and why."""
        return [(need, verdict) for need, verdict in self.verdicts if need.required and not is_answered(verdict)]


def is_answered(verdict: Verdict) -> bool:
    """True if any name is answered; auth-server answers its own zones only, and refuses the others."""
    return verdict.outcome is Outcome.ANSWERED and not verdict.authoritative_only


def forecast(options: Sequence[Option], host: Host, needs: Iterable[Need]) -> Forecast:
    """What dnsmasq would do with these options, started now on this host."""
    config = configuration(options)
    start = starts(config, host)
    asked = tuple(needs)
    verdicts = answers(config, host, (need.query for need in asked), start)
    return Forecast(config, start, tuple(zip(asked, verdicts, strict=True)))
