"""A node with everybody's rules in both backends, and operations run on it by pyinfra's command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.operations.rules import COMMANDS, clear, load

Operate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bare(lab: Lab) -> Iterator[Node]:
    """node-0 without rules."""
    node = lab.node("node-0")
    clear(node)
    yield node
    clear(node)


@pytest.fixture
def mixed(bare: Node) -> Node:
    """node-0 with the mixed ruleset in both backends, IPv4 and IPv6."""
    for command in COMMANDS:
        load(bare, command)
    return bare


@pytest.fixture
def operate(pyinfra: Run) -> Operate:
    """`operate("netfilter.remove_stale", "losing=nft")` on node-0; `dry=True` for a dry run."""

    def run(operation: str, *arguments: str, dry: bool = False) -> subprocess.CompletedProcess[str]:
        how = "--dry" if dry else "-y"
        return pyinfra(how, "--limit", "node-0", "inventory", f"operations.{operation}", *arguments)

    return run
