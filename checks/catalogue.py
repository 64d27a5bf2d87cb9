"""All checks, in the order in which they are reported."""

from __future__ import annotations

from collections.abc import Callable

from checks import dnsmasq_001, dnsmasq_002, dnsmasq_003, dnsmasq_004
from checks.case import Case
from checks.finding import Finding

CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    module.ID: module.check for module in (dnsmasq_001, dnsmasq_002, dnsmasq_003, dnsmasq_004)
}


def judge(case: Case) -> list[Finding]:
    """Every check's findings on one node."""
    return [finding for check in CHECKS.values() for finding in check(case)]
