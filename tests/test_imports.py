"""The import table of the design: who may import whom. An import that goes against it is a design error."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Folder -> the folders of ours that it may import. `tests` and `bench` may import everything.
MAY_IMPORT = {
    "inventories": set(),
    "group_data": set(),
    "facts": set(),
    "models": {"facts"},
    "probes": {"facts", "models"},
    "checks": {"facts", "models", "probes"},
    "operations": {"facts", "models", "probes"},
    "reports": {"checks", "probes"},
    "deploys": {"facts", "models", "probes", "checks", "operations", "reports"},
    "lab": set(),
}
FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
    return found & (set(MAY_IMPORT) | {"tests", "bench"})


def test_every_folder_of_code_is_in_the_table() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert folders - set(MAY_IMPORT) <= {"tests", "bench"}
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    assert imported(path) - {folder} <= MAY_IMPORT[folder]


@pytest.mark.parametrize("folder", ["models", "checks", "reports"])
def test_what_is_pure_imports_nothing_that_connects(folder: str) -> None:
    """Models, checks and reports do no I/O on nodes: pyinfra, paramiko, sockets and processes are not theirs."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not names & {"pyinfra", "paramiko", "gevent", "socket", "subprocess", "os"}, path


def test_the_table_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from operations import dnsmasq\nimport checks.case\n")
    assert imported(bad) == {"operations", "checks"}


def test_no_test_imports_pyinfras_command_line() -> None:
    """It patches sockets and threads of the whole process: tests after it would not be what they seem."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("pyinfra_cli"), path
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("pyinfra_cli") for alias in node.names), path
