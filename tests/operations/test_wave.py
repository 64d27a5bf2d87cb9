"""The order of nodes, and what stands in the way of the next wave."""

from __future__ import annotations

import pytest

from operations.wave import waves


def sizes(first: list[str], rest: list[str], canaries: int, size: int | str) -> list[tuple[str, ...]]:
    return [wave.nodes for wave in waves(first, rest, canaries, size)]


def test_the_canary_is_the_first_node_that_changes() -> None:
    assert sizes(["b", "c"], ["a"], 1, 1) == [("b",), ("c", "a")]


def test_nothing_to_change_is_one_wave_of_proof() -> None:
    assert sizes([], ["a", "b"], 1, "20%") == [("a", "b")]


def test_a_share_is_of_the_whole_fleet() -> None:
    names = [f"n{number}" for number in range(10)]
    assert [len(nodes) for nodes in sizes(names, [], 1, "20%")] == [1, 2, 2, 2, 2, 1]
    assert [len(nodes) for nodes in sizes(names[:4], names[4:], 1, "20%")] == [1, 2, 7]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("size", [1, 3, "1%", "20%", "100%"])
def test_every_node_is_in_exactly_one_wave(count: int, size: int | str) -> None:
    names = [f"n{number}" for number in range(count)]
    for changing in (0, 1, count // 2, count):
        nodes = [name for group in sizes(names[:changing], names[changing:], 2, size) for name in group]
        assert sorted(nodes) == sorted(names)


def test_waves_know_the_earlier_ones() -> None:
    first, second, third = waves(["a", "b", "c"], [], 1, 1)
    assert second.earlier == (first,) and third.earlier == (first, second)
    assert str(second) == "Wave 2 of 3" and "b" in second and "a" not in second
