"""The order of nodes, and what stands in the way of the next wave."""

from __future__ import annotations

from collections.abc import Generator

import gevent
import pytest
from pyinfra.api.command import FunctionCommand
from pyinfra.api.config import Config
from pyinfra.api.inventory import Inventory
from pyinfra.api.operation import add_op, operation
from pyinfra.api.operations import run_ops
from pyinfra.api.state import State

from operations.wave import one_batch, waves


def sizes(first: list[str], rest: list[str], canaries: int, size: int | str) -> list[tuple[str, ...]]:
    return [wave.nodes for wave in waves(first, rest, canaries, size)]


def test_the_canary_is_the_first_node_that_changes() -> None:
    assert sizes(["b", "c"], ["a"], 1, 1) == [("b",), ("c",), ("a",)]


def test_nothing_to_change_is_one_wave_of_proof() -> None:
    assert sizes([], ["a", "b"], 1, "20%") == [("a", "b")]


def test_a_share_is_of_the_whole_fleet() -> None:
    names = [f"n{number}" for number in range(10)]
    assert [len(nodes) for nodes in sizes(names, [], 1, "20%")] == [1, 2, 2, 2, 2, 1]
    assert [len(nodes) for nodes in sizes(names[:4], names[4:], 1, "20%")] == [1, 2, 1, 6]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("size", [1, 3, "1%", "20%", "100%"])
def test_every_node_is_in_exactly_one_wave(count: int, size: int | str) -> None:
    names = [f"n{number}" for number in range(count)]
    for changing in (0, 1, count // 2, count):
        nodes = [name for group in sizes(names[:changing], names[changing:], 2, size) for name in group]
        assert sorted(nodes) == sorted(names)


def test_nodes_that_need_nothing_are_never_in_a_wave_with_changed_ones() -> None:
    """A change with its timer running would wait for them; they come last, and are not counted."""
    names = [f"n{number}" for number in range(1000)]
    for changing in (1, 2, 200, 999):
        found = list(waves(names[:changing], names[changing:], 1, "20%"))
        assert all(set(wave.nodes) <= set(names[:changing]) for wave in found[:-1])
        assert found[-1].nodes == tuple(names[changing:])
        assert [str(wave) for wave in found[-2:]] == [f"Wave {len(found) - 1} of {len(found) - 1}", "The other nodes"]
        assert found[-1].earlier == tuple(found[:-1])


def test_waves_know_the_earlier_ones() -> None:
    first, second, third = waves(["a", "b", "c"], [], 1, 1)
    assert second.earlier == (first,) and third.earlier == (first, second)
    assert str(second) == "Wave 2 of 3" and "b" in second and "a" not in second


@pytest.mark.parametrize(("together", "most"), [(True, 2), (False, 1)])
def test_one_batch_is_as_many_at_once_as_parallel_says(together: bool, most: int) -> None:
    """--parallel 2, and a wave of every second node: in batches of two, one of each two has nothing to do."""
    state = State(Inventory(([f"n{number}" for number in range(8)], {})), Config(PARALLEL=2))
    for host in state.inventory:
        state.activate_host(host)
    running: list[str] = []
    counts: list[int] = []

    def change(name: str) -> bool:
        running.append(name)
        counts.append(len(running))
        gevent.sleep(0.02)
        running.remove(name)
        return True

    @operation()
    def changes(name: str) -> Generator[FunctionCommand, None, None]:
        yield FunctionCommand(change, [name], {})

    # pyinfra's own order of the hosts.
    for host in state.inventory.get_active_hosts()[::2]:
        more = {"_parallel": one_batch(state)} if together else {}
        add_op(state, changes, host.name, host=host, name="changes", **more)
    run_ops(state)
    assert len(counts) == 4 and max(counts) == most
