"""What a check of a new node is given: the node among the fleet, what it brings along, and what it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from checks.case import Case
from checks.diagnosis import Hop
from facts.provision import ProvisionState
from facts.reading import Reading
from facts.snapshot import Snapshot
from models.reference import Reference


@dataclass(frozen=True)
class Newcomer:
    """
    One new node.

    + case: as for every check
    + reference: the policy's and the cluster's
    + provision: what it brings along; asked: this machine's clock before and after that was read
    + settings: the kernel settings of `reference` as they are on the node; one that its kernel has not is left out
    + hops: what was asked from this node
    + joined: the node with pods (`models.joined`), and whose
    """

    case: Case
    reference: Reference
    provision: Reading[ProvisionState | None]
    asked: tuple[float, float]
    settings: Mapping[str, str]
    hops: Sequence[Hop]
    joined: tuple[Snapshot, str]

    def brings(self) -> ProvisionState | None:
        """What it brings along, where that was read."""
        return self.provision["value"] if self.provision["state"] == "value" else None

    def unbrought(self) -> str:
        """Why that is not known."""
        return f"what it brings along was not read: {self.provision['state']}: {self.provision['detail']}"
