"""The guards' own timers, with nobody to start anything: each fault and its end is told within 70 seconds.

The faults are on three nodes at once, so that the waiting is done once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.operations.test_guards import FAULTS, errors, success, within

pytestmark = pytest.mark.lab

LIMIT = 70


class Case(NamedTuple):
    """One fault on one node: what ends it, what it loses, and a line of the journal about it."""

    node: Node
    repair: list[str]
    lost: list[str]
    line: str


def test_each_fault_is_told_by_the_timer_and_its_end_too(healed: Lab, pyinfra: Run) -> None:
    done = pyinfra("-y", "inventory", "deploys/prevent.py", timeout=300)
    assert done.returncode == 0, done.stderr
    cases: list[Case] = []
    since: dict[str, str] = {}
    for node, (fault, repair, lost, line) in zip(healed.nodes, FAULTS.values(), strict=True):
        # The faults name node-0's address.
        here = [[word.replace("172.25.4.1", node.plan.vip) for word in words] for words in (fault, lost, [line])]
        since[node.name] = now(node)
        node.run(here[0])
        cases.append(Case(node, repair, here[1], here[2][0]))
    assert all_within(LIMIT, [partial(told, case, since[case.node.name]) for case in cases]), left(cases)
    for case in cases:
        since[case.node.name] = now(case.node)
        case.node.run(case.repair)
    assert all_within(LIMIT, [partial(ended, case, since[case.node.name]) for case in cases]), left(cases)


def now(node: Node) -> str:
    return node.run(["date", "+%s.%6N"]).stdout.strip()


def told(case: Case, since: str) -> bool:
    """Whether the metric of each question that is lost says so, and the journal too."""
    answered = success(case.node)
    said = errors(case.node, "dnsmend-probe", since)
    return sorted(name for name in answered if not answered[name]) == sorted(case.lost) and any(
        re.search(case.line, each) for each in said
    )


def ended(case: Case, since: str) -> bool:
    answered = success(case.node)
    case.node.run(["journalctl", "--sync"])
    said = case.node.run(
        ["journalctl", "-u", "dnsmend-probe", "-o", "cat", "--no-pager", f"--since=@{since}", "--grep=answered again"],
        check=False,
    ).stdout
    return set(answered.values()) == {True} and len(said.splitlines()) >= len(case.lost)


def all_within(seconds: float, seen: list[Callable[[], bool]]) -> bool:
    return within(seconds, lambda: all(each() for each in seen))


def left(cases: list[Case]) -> dict[str, dict[str, bool]]:
    return {case.node.name: success(case.node) for case in cases}
