"""What of docs/ is made: the index, the policy's reference, and the schema of the JSON report.

python -m reports.docs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from checks.catalogue import MODULES
from checks.onboarding import MODULES as ONBOARDING
from reports import policy_reference
from reports.schema import schema

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_SCHEMA = "diagnosis.schema.json"
_POLICY = "policy.md"


def made() -> dict[str, str]:
    """Every file that is made, by its name below docs/."""
    policy = policy_reference.page(
        (ROOT / "group_data/all.py").read_text(), (ROOT / "deploys/policy_rules.py").read_text()
    )
    written = {page.name: page.read_text() for page in DOCS.glob("*.md") if page.stem != "README"}
    return {
        "README.md": _index(written | {_POLICY: policy}),
        _POLICY: policy,
        _SCHEMA: json.dumps(schema(), indent=2) + "\n",
    }


def _index(pages: Mapping[str, str]) -> str:
    checks = [f"| [{module.ID}](checks/{module.ID}.md) | {module.TITLE} |" for module in MODULES]
    return "\n".join(
        [
            "<!-- Made by: make docs -->",
            "# Documentation",
            "",
            *(f"- [{_title(text) or name}]({name})" for name, text in sorted(pages.items())),
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


def _title(page: str) -> str:
    return next((line.removeprefix("# ").strip() for line in page.splitlines() if line.startswith("# ")), "")


if __name__ == "__main__":
    for name, text in made().items():
        (DOCS / name).write_text(text)
        print(f"docs/{name}")
