"""Write the reports that were asked for, each in its format: `--data json=FILE --data html=FILE`, "-" for stdout."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from checks.diagnosis import Diagnosis
from reports import html, json_report, junit, markdown

_RENDER: dict[str, Callable[[Diagnosis], str]] = {
    "json": json_report.render,
    "junit": junit.render,
    "markdown": markdown.render,
    "html": html.render,
}
FORMATS = tuple(_RENDER)


def wanted(data: Mapping[str, Any], formats: Sequence[str] = FORMATS) -> dict[str, str]:
    """The files that were asked for, by format. ValueError, in one sentence, for what cannot be written to."""
    paths = {name: data[name] for name in formats if data.get(name) is not None}
    for name, path in paths.items():
        if not isinstance(path, str) or not path:
            raise ValueError(f"--data {name}={path}: must be a file to write, or - for standard output")
        if path != "-" and Path(path).is_dir():
            raise ValueError(f"--data {name}={path}: is a directory; must be a file to write")
        if path != "-" and not Path(path).parent.is_dir():
            raise ValueError(f"--data {name}={path}: there is no directory {Path(path).parent}")
    for path in set(paths.values()):
        same = [name for name in paths if paths[name] == path]
        if len(same) > 1:
            raise ValueError(f"{' and '.join(same)} cannot both be written to {path}")
    return paths


def write(diagnosis: Diagnosis, paths: Mapping[str, str]) -> None:
    """Render and write each of them. A file is whole or not there. OSError and ValueError name the file."""
    for name, path in paths.items():
        text = _RENDER[name](diagnosis)
        try:
            to(path, text)
        except OSError as error:
            raise OSError(f"{path}: the {name} report could not be written: {error.strerror or error}") from error


def to(target: str, text: str) -> None:
    """Write to a file, which is whole or not there, or to standard output ("-"). Raises OSError."""
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _replace(Path(target), text)


def _replace(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():
        # A pipe, a terminal, /dev/stdout: not to be replaced by a file.
        with path.open("w", encoding="utf-8") as stream:
            stream.write(text)
        return
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
