"""The faults that the lab can inject: one module per family, each a tuple of `Fault`."""

from __future__ import annotations

from lab.faults import broken_dnsmasq, datapath, interface_filters, other_dnsmasq, tools
from lab.faults.fault import MODES, Fault, Mode
from lab.host import LabError
from lab.places import Node

__all__ = ["FAULTS", "MODES", "Fault", "inject"]

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for family in (interface_filters, broken_dnsmasq, other_dnsmasq, datapath, tools)
    for fault in family.FAULTS
}


def inject(node: Node, name: str, mode: str | None) -> str:
    """Break `node` and see that it is broken; returns what was seen. Raises LabError if that cannot be, or is not so."""
    fault = FAULTS.get(name)
    if fault is None:
        raise LabError(f"no fault {name!r}; `python -m lab list` prints them")
    return f"{node.name}: {name} is live: {fault.apply(node, _mode(fault, mode))}"


def _mode(fault: Fault, wanted: str | None) -> Mode | None:
    if wanted is None:
        return fault.modes[0] if fault.modes else None
    for mode in fault.modes:
        if mode == wanted:
            return mode
    if not fault.modes:
        raise LabError(f"{fault.name} does not depend on how dnsmasq binds: leave --mode out")
    raise LabError(f"{fault.name} breaks nothing with {wanted} ({fault.unaffected}); use {' or '.join(fault.modes)}")
