"""Which checks are asked what a node needs: those that can ask for something, and no others."""

from __future__ import annotations

from inspect import getsource

from checks import catalogue, conntrack_001, conntrack_002, ipvs_006
from deploys import asked


def test_every_check_that_can_ask_for_something_is_asked() -> None:
    restarts = {module for module in catalogue.MODULES if any(each in getsource(module) for each in asked.RESTARTS)}
    assert restarts | {conntrack_001, conntrack_002, ipvs_006} == set(asked.CHECKS)
