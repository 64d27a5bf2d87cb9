"""Faults."""
from __future__ import annotations

from lab.host import LabError
from lab.places import Node


def inject(node: Node, fault: str, mode: str | None) -> str:
    raise LabError("not yet")
FAULTS = {}
MODES = ("wildcard", "bind-interfaces", "bind-dynamic")
