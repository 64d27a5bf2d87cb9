"""docs/ is up to date: what is made of it, and where its links lead."""

from __future__ import annotations

import re

import pytest

from checks.catalogue import MODULES
from reports import docs


@pytest.mark.parametrize("name", ["README.md", "diagnosis.schema.json", "policy.md"])
def test_what_is_made_is_up_to_date(name: str) -> None:
    assert (docs.DOCS / name).read_text() == docs.made()[name], "make docs"


def test_the_index_names_every_check_and_every_page() -> None:
    index = docs.made()["README.md"]
    for module in MODULES:
        assert f"[{module.ID}](checks/{module.ID}.md) | {module.TITLE} |" in index
    for page in docs.DOCS.rglob("*.md"):
        # What is to be copied from docs/examples is a page only where it is copied to.
        if page.name != "README.md" and not page.is_relative_to(docs.DOCS / "examples"):
            assert f"({page.relative_to(docs.DOCS)})" in index


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", docs.made()["README.md"]):
        assert (docs.DOCS / target).is_file(), target
