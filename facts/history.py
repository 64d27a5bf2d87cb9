"""A node's past in one exec: asked for only where something is wrong, so that every snapshot stays small."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict, cast

from pyinfra.api.facts import FactBase
from typing_extensions import override

from facts.changes import AlternativesLog, Clock, NodeClock, Package, PackageLog, Switched
from facts.coredns_logs import CoreDnsLogs, LogGroup
from facts.file_times import ConfigurationTimes, FileTimes
from facts.kernel_complaints import KernelComplaint, KernelComplaints
from facts.reading import NodeFact, Reading, commands, readings
from facts.starts import Started, Starts


class History(TypedDict):
    """One node's last days; plain JSON. Times are those of the node's clock, as UTC.

    `heard` is when the controller asked and when it had the answer, in seconds since 1970 by its own clock.
    """

    clock: Reading[Clock | None]
    packages: Reading[list[Package]]
    alternatives: Reading[list[Switched]]
    starts: Reading[list[Started]]
    files: Reading[list[FileTimes]]
    kernel: Reading[list[KernelComplaint]]
    coredns: Reading[list[LogGroup]]
    heard: NotRequired[tuple[float, float]]


FACTS: dict[str, NodeFact[Any]] = {
    "clock": NodeClock(),
    "packages": PackageLog(),
    "alternatives": AlternativesLog(),
    "starts": Starts(),
    "files": ConfigurationTimes(),
    "kernel": KernelComplaints(),
    "coredns": CoreDnsLogs(),
}

#: Seconds that the whole of it may take.
TIMEOUT = 120


class NodeHistory(FactBase[History]):
    """All of a node's past in one exec. Needs root for CoreDNS's logs and the kernel's.

    .. code:: python

        {"clock": {"state": "value", "value": {...}, "detail": ""}, "packages": {...}, ...}
    """

    @override
    def command(self) -> str:
        return commands(FACTS.values())

    @override
    def process(self, output: list[str]) -> History:
        return cast(History, readings(FACTS, output))
