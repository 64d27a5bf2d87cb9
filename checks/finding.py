"""What a check says."""

from __future__ import annotations

from enum import StrEnum
from typing import TypedDict


class Status(StrEnum):
    """The result of a check on one node. Unknown is never pass."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    UNKNOWN = "unknown"


class Finding(TypedDict):
    """One check's result on one node.

    + check: its stable id, "DNSMASQ-001"; title: the first line of its module's docstring
    + sentence: names the culprit: file and line, process, address
    + evidence: verbatim: probes, options, messages
    + operation: what would fix it, "" where nothing of ours does
    """

    check: str
    title: str
    node: str
    status: Status
    sentence: str
    evidence: list[str]
    operation: str
