"""The Kubernetes lab: the one that is up, or one that is made for these tests on a network of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import lifecycle
from lab.api import Lab
from tests.lab.private import private_lab, traces


@pytest.fixture(scope="session")
def kube_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if lifecycle.status()["kubernetes"]:
        yield Lab.attach()
        return
    with private_lab(tmp_path_factory.mktemp("k") / "lab"):
        before = traces()
        lifecycle.up(3, kubernetes=True)
        yield Lab.attach()
        lifecycle.down()
        assert traces() == before


@pytest.fixture
def healed(kube_lab: Lab) -> Iterator[Lab]:
    """The lab without a fault, and without one afterwards."""
    if any(kube_lab.record.faults.values()):
        kube_lab.heal()
    yield kube_lab
    kube_lab.heal()
