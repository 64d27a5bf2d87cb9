"""The checks that a new node has to pass before it joins: its own ones, then those of every node."""

from __future__ import annotations

from collections.abc import Iterable

from checks import (
    dnsmasq_001,
    onboard_001,
    onboard_002,
    onboard_003,
    onboard_004,
    onboard_005,
    onboard_006,
    onboard_007,
)
from checks.catalogue import CHECKS
from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from models.joined import OWN

#: As in `checks.catalogue`.
MODULES = (onboard_001, onboard_002, onboard_003, onboard_004, onboard_005, onboard_006, onboard_007)


def judge(new: Newcomer) -> list[Finding]:
    """Every finding on a new node."""
    found = [finding for module in MODULES for finding in module.check(new)]
    for name, check in CHECKS.items():
        # Without a pod to ask from it is unknown: ONBOARD-004 stands in for it.
        if name != dnsmasq_001.ID or new.joined[1] == OWN:
            found += check(new.case)
    return found


def may_join(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed and nothing is unknown, of at least one finding."""
    statuses = [finding["status"] for finding in findings]
    return bool(statuses) and not any(status in (Status.FAIL, Status.UNKNOWN) for status in statuses)
