"""What an account that is not root may run as root on a node: two programs, and the sudoers file that names them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from typing_extensions import override

from facts.reading import NodeFact
from operations import restricted_shell, runs
from operations.allowed_fixing import fixing
from operations.allowed_reading import Known, reading
from operations.scripts import TEMPLATES
from operations.wave import refusal

STEP = "privileges"

#: What pyinfra's `_shell_executable` has to be for an account that may look, and for one that may also fix.
READ = "/usr/local/sbin/dnsmend-read"
FIX = "/usr/local/sbin/dnsmend-fix"
SUDOERS = "/etc/sudoers.d/dnsmend"


@dataclass(frozen=True)
class File:
    """One file that is installed, owned by root."""

    path: str
    mode: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


class Privileges(NodeFact[dict[str, str]]):
    """The SHA-256 of what is installed, by path; what is not there is left out.

    .. code:: python

        {"/usr/local/sbin/dnsmend-read": "9f86d0...", "/etc/sudoers.d/dnsmend": "2c26b4..."}
    """

    script = f'for path in {READ} {FIX} {SUDOERS}; do [ ! -e "$path" ] || sha256sum "$path" || exit 77; done'

    @staticmethod
    @override
    def nothing() -> dict[str, str]:
        return {}

    @override
    def read(self, output: list[str]) -> dict[str, str]:
        return {path: digest for digest, _, path in (line.partition("  ") for line in output if line)}


def files() -> list[File]:
    """What is installed: the programs, and last the file that permits them."""
    programs = [File(path, "755", program(known)) for path, known in ((READ, reading()), (FIX, fixing()))]
    digests = {file.path: file.digest for file in programs}
    sudoers = TEMPLATES.get_template("privileges/sudoers.j2").render(read=READ, fix=FIX, digests=digests)
    return [*programs, File(SUDOERS, "440", sudoers)]


def program(known: Known) -> str:
    """`operations.restricted_shell` with what it knows."""
    source = Path(restricted_shell.__file__).read_text(encoding="utf-8")
    begin, end = source.split('json.loads("{}")')
    return f"#!/usr/bin/python3 -IBS\n{begin}json.loads({json.dumps(known)!r}){end}"


@operation()
def install(run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Let the members of the groups dnsmend-read and dnsmend-fix look at this node, and fix it, and nothing else.

    + run: the run's id, for the journal

    Needs root. The sudoers file is checked by visudo, also together with all others, before it is in place. It holds
    the programs' SHA-256: sudo runs no other ones. Neither groups nor accounts are made.

    **Example:**

    .. code:: python

        privileges.install(name="CI may look")
    """
    yield from _change(files(), run)


@operation()
def remove(run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Remove the programs and the sudoers file.

    + run: the run's id, for the journal

    **Example:**

    .. code:: python

        privileges.remove(name="CI may not look any more")
    """
    yield from _change([], run)


def _change(wanted: Sequence[File], run: str) -> Generator[StringCommand, None, None]:
    reading_of = host.get_fact(Privileges)
    if reading_of["state"] not in ("value", "empty"):
        yield refusal(f"refused: what is installed is not known: {reading_of['state']}: {reading_of['detail']}")
        return
    there = reading_of["value"]
    if there == {file.path: file.digest for file in wanted}:
        host.noop("what may be run is installed" if wanted else "nothing is installed here")
        return
    if not host.state.is_executing:
        for line in [f"+ {file.path} sha256:{file.digest}" for file in wanted] or [f"- {path}" for path in there]:
            host.log(line)
    if wanted:
        script = TEMPLATES.get_template("privileges/install.sh.j2").render(files=wanted, sudoers=SUDOERS)
        texts = [base64.b64encode(file.text.encode()).decode() for file in wanted]
        yield StringCommand(script, _stdin="".join(f"{number} {text}\n" for number, text in enumerate(texts)))
    else:
        yield StringCommand(TEMPLATES.get_template("privileges/remove.sh.j2").render(paths=(SUDOERS, READ, FIX)))
    runs.record(run, host.name, "changed", step=STEP, because="what may be run", files=[file.path for file in wanted])
