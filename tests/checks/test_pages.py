"""Every check has a page, and every page a check."""

from __future__ import annotations

from pathlib import Path

from checks import dnsmasq_001, dnsmasq_002, dnsmasq_003, dnsmasq_004
from checks.catalogue import CHECKS

PAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "checks"


def test_pages_and_checks_match() -> None:
    assert {path.stem for path in PAGES.glob("*-*.md")} == set(CHECKS)


def test_titles_match() -> None:
    for module in (dnsmasq_001, dnsmasq_002, dnsmasq_003, dnsmasq_004):
        assert (module.__doc__ or "").splitlines()[0] == f"{module.TITLE}."
        assert (PAGES / f"{module.ID}.md").read_text().startswith(f"# {module.ID}: {module.TITLE}\n")
