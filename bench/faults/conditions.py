"""Every fault that is no kill: what goes wrong with nodes, ways to them and controllers while pyinfra is at work."""

from __future__ import annotations

from bench.faults import (
    conditions_clocks,
    conditions_controller,
    conditions_disk,
    conditions_dnsmasq,
    conditions_kube_proxy,
    conditions_locks,
    conditions_ssh,
)
from bench.faults.case import Fault


def faults() -> list[Fault]:
    """All of them, those of one subject after the other."""
    subjects = (
        conditions_ssh,
        conditions_disk,
        conditions_locks,
        conditions_dnsmasq,
        conditions_kube_proxy,
        conditions_controller,
        conditions_clocks,
    )
    return [fault for subject in subjects for fault in subject.faults()]
