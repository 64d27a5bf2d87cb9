"""The policy as it comes, for tests that need no inventory."""

from __future__ import annotations

from dataclasses import fields
from runpy import run_path
from typing import Any

from deploys import policy as policies
from deploys.policy import Policy
from tests.conftest import ROOT


def policy(**changed: Any) -> Policy:
    """That of group_data/all.py, with these values in it."""
    values = run_path(str(ROOT / "group_data/all.py")) | changed
    return policies.of_values({field.name: values[field.name] for field in fields(Policy)})
