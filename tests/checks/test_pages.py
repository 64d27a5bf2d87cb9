"""Every check has a page, and every page a check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checks.catalogue import CHECKS, MODULES
from checks.onboarding import MODULES as ONBOARDING

PAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "checks"


def test_pages_and_checks_match() -> None:
    assert {path.stem for path in PAGES.glob("*-*.md")} == {*CHECKS, *(module.ID for module in ONBOARDING)}


@pytest.mark.parametrize("module", [*MODULES, *ONBOARDING], ids=lambda module: module.ID)
def test_titles_and_operations_match(module: Any) -> None:
    assert (module.__doc__ or "").splitlines()[0] == f"{module.TITLE}."
    page = (PAGES / f"{module.ID}.md").read_text()
    assert page.startswith(f"# {module.ID}: {module.TITLE}\n")
    assert getattr(module, "OPERATION", "") in page
    for part in ("What it means", "How to see it by hand", "What dnsmend says", "How it is fixed", "Sources"):
        assert f"**{part}.**" in page
