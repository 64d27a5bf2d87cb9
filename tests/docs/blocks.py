"""The commands of a page of docs/, run as a reader would, in order, in a checkout of the reader's own.

A fenced block of the language `sh` is run with bash, which ends at the first command that fails. A block whose last
command has to fail says so for the reader: `# exits with 1`. A block of the language `text` right after it is what the
reader should see: each of its lines has to be in what the commands said, whatever the numbers are ("..." is left out).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"# exits with (\d+)$", re.MULTILINE)
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
_LEFT_OUT = (".git", ".venv", "runs", "snapshots", "__pycache__", ".*_cache")


@dataclass(frozen=True)
class Block:
    """Commands, the exit code that they must have, and lines that they must say."""

    script: str
    code: int
    shown: str


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page that are run."""
    fences = list(_FENCE.finditer(text))
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence["language"] == "sh":
            code = _EXIT.search(fence["text"])
            shown = following["text"] if following and following["language"] == "text" else ""
            yield Block(fence["text"], int(code[1]) if code else 0, shown)


def checkout(folder: Path) -> Path:
    """A copy of this checkout to work in, without what git does not keep; its nodes are the lab's."""
    shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    # Whoever runs the tests may have an inventory of real nodes here.
    (folder / "inventory").unlink()
    (folder / "inventory").symlink_to("inventories/lab.py")
    return folder


def run(page: str, folder: Path, environment: Mapping[str, str] | None = None, stand_in: Mapping[str, str] = {}) -> int:
    """
    Run a page's blocks in `folder`; AssertionError at the first one that does not end or speak as the page says.

    + environment: more of it
    + stand_in: what a reader has to put in the place of the page's examples: {"192.0.2.10": "198.18.53.10"}

    Returns how many blocks were run.
    """
    done = 0
    for block in blocks((folder / "docs" / page).read_text()):
        script, shown = block.script, block.shown
        for example, own in stand_in.items():
            script, shown = script.replace(example, own), shown.replace(example, own)
        code, said = _bash(script, folder, environment or {})
        assert code == block.code, f"{page}: ended with {code}, not {block.code}:\n{script}\n{said}"
        heard = _essence(said)
        for line in shown.splitlines():
            for part in line.split("..."):
                assert _essence(part) in heard, f"{page}: not said: {part!r}\n{script}\n{said}"
        done += 1
    return done


def _bash(script: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    own = {
        "PATH": f"{environment.get('PATH', '')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYINFRA_PROGRESS": "off",
        "NO_COLOR": "1",
        "COLUMNS": "110",
    }
    base = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=base | dict(environment) | own,
    )
    return done.returncode, done.stdout


def _essence(text: str) -> str:
    """What is the same each time: no numbers, no ids of runs, no line ends."""
    return re.sub(r"\s+", "", re.sub(r"\d+", "0", _RUN.sub("RUN", text)))
