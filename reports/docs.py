"""What of docs/ is made: the index, and the schema of the JSON report.

python -m reports.docs
"""

from __future__ import annotations

import json
from pathlib import Path

from checks.catalogue import MODULES
from checks.onboarding import MODULES as ONBOARDING
from reports.schema import schema

DOCS = Path(__file__).resolve().parent.parent / "docs"
_SCHEMA = "diagnosis.schema.json"


def made() -> dict[str, str]:
    """Every file that is made, by its name below docs/."""
    return {"README.md": _index(), _SCHEMA: json.dumps(schema(), indent=2) + "\n"}


def _index() -> str:
    pages = [(page, _title(page)) for page in sorted(DOCS.glob("*.md")) if page.stem != "README"]
    checks = [f"| [{module.ID}](checks/{module.ID}.md) | {module.TITLE} |" for module in MODULES]
    return "\n".join(
        [
            "<!-- Made by: make docs -->",
            "# Documentation",
            "",
            *(f"- [{title}]({page.name})" for page, title in pages),
            f"- [JSON Schema of a diagnosis]({_SCHEMA}): what `--data json=FILE` writes",
            "",
            "## Checks",
            "",
            f"{len(checks)} checks, in the order in which they are made. Each page says what it means, how to see it",
            "by hand, what dnsmend says about it, how it is fixed, and where that is known from.",
            "",
            "| check | what has to hold |",
            "|---|---|",
            *checks,
            "",
            "A [new node](onboarding.md) has to pass these as well:",
            "",
            "| check | what has to hold |",
            "|---|---|",
            *(f"| [{module.ID}](checks/{module.ID}.md) | {module.TITLE} |" for module in ONBOARDING),
            "",
        ]
    )


def _title(page: Path) -> str:
    first = next((line for line in page.read_text().splitlines() if line.startswith("# ")), "")
    return first.removeprefix("# ").strip() or page.stem


if __name__ == "__main__":
    for name, text in made().items():
        (DOCS / name).write_text(text)
        print(f"docs/{name}")
