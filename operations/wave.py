"""Waves: the nodes in the order in which they are changed, kept apart by one gate operation per wave.

pyinfra orders operations by each host's own chain, ties broken by line number, so a loop over waves alone does not keep
them apart. A gate that *every* host passes does: all chains go through it (measured with pyinfra 3.10.0, also in its
dry run). A node that is not proven fails at its gate, and no later wave begins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field

from pyinfra import host
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.api.state import State

#: What comes after the waves: the nodes that need nothing, once all changes are proven.
OTHERS = "The other nodes"


@dataclass(frozen=True)
class Wave:
    """Some nodes, and what went wrong on them: node name to reason. One past the total is that of `OTHERS`."""

    number: int
    total: int
    nodes: tuple[str, ...]
    earlier: tuple[Wave, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.nodes

    def __str__(self) -> str:
        return f"Wave {self.number} of {self.total}" if self.number <= self.total else OTHERS

    def fail(self, name: str, reason: str) -> None:
        """This node is not proven: it is taken back, and the wave's gate stops the run."""
        self.failures[name] = reason

    def is_open(self) -> bool:
        """False once this host, or a node of an earlier wave, has failed, whatever --fail-percent lets through."""
        failed = {node.name for node in host.state.failed_hosts}
        return host.name not in self.failures and all(
            not wave.failures and failed.isdisjoint(wave.nodes) for wave in self.earlier
        )

    def is_unproven(self) -> bool:
        """True if the current host has failed in this wave."""
        return host.name in self.failures


def ordered(names: Sequence[str], last: Collection[str]) -> list[str]:
    """The nodes in their order, those of `last` after all others."""
    return sorted(names, key=lambda name: name in last)


def waves(first: Sequence[str], rest: Sequence[str], canaries: int, size: int | str) -> Iterator[Wave]:
    """
    The canaries, then batches of `size`, then those that need nothing; a node is in exactly one wave.

    + first: the nodes that will be changed, in order: a canary that changes nothing proves nothing
    + rest: the nodes that will not, in a wave of their own: a change with its timer running does not wait for them
    + canaries: nodes in the first wave
    + size: nodes in each wave after it, or a share of all nodes ("20%")
    """
    batch = size if isinstance(size, int) else max(1, (len(first) + len(rest)) * int(size.rstrip("%")) // 100)
    groups = [tuple(first[:canaries] or rest)]
    groups += [tuple(first[start : start + batch]) for start in range(canaries, len(first), batch)]
    total = len(groups)
    if first and rest:
        groups.append(tuple(rest))
    earlier: tuple[Wave, ...] = ()
    for number, nodes in enumerate(groups, 1):
        wave = Wave(number, total, nodes, earlier)
        yield wave
        earlier += (wave,)


def one_batch(state: State) -> int:
    """`_parallel` for the operations of a wave: as many as there are hosts.

    pyinfra goes through all hosts of a run `_parallel` at a time, and waits for each such batch (`_run_single_op` in
    pyinfra/api/operations.py, 3.10). With --parallel as that, which is its default, a wave that is scattered over many
    batches would wait for every one of them, its timers running. How many are under way at once --parallel says all the
    same: it is the size of `state.pool`.
    """
    return len(state.inventory)


def any_changed(*changes: OperationMeta) -> Callable[[], bool]:
    """For `_if`: true once one of these operations has changed something."""
    return lambda: any(change.did_change() for change in changes)


def refusal(reason: str) -> StringCommand:
    """A command that fails with this sentence, which is how an operation fails for one host and not for all."""
    return StringCommand("printf", QuoteString("%s\n"), QuoteString(reason), ">&2;", "false")


@operation()
def gate(wave: Wave) -> Generator[StringCommand, None, None]:
    """
    Stop if a node of this wave is not proven. Called for every host, whichever wave it is in.

    + wave: the wave that ends here

    **Example:**

    .. code:: python

        for wave in waves:
            if host.name in wave: ...
            gate(name=f"{wave}: gate", wave=wave)
    """
    if host.state.is_executing and host.name in wave.failures:
        yield refusal(wave.failures[host.name])
    else:
        host.noop("nothing stands in the way of the next wave")
