"""A recording as a directory: one JSON file per part, and a manifest that says what it is and that it is whole.

The directory is for its owner alone. What is in it is redacted before it gets here.
"""

from __future__ import annotations

import json
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from reports import plain

FORMAT = 1
"""It grows when an older reader would misread a newer bundle."""
MANIFEST = "manifest.json"
KIND = "dnsmend bundle"
CAPTURES = "captures"
#: A part of a bundle that is larger than this was not written by dnsmend, nor a longer manifest.
LARGEST = 1_000_000_000
LONGEST_MANIFEST = 10_000_000


class BundleError(ValueError):
    """Why a directory cannot be written to, or is no bundle that can be read, in one sentence."""


def write(directory: Path, parts: Mapping[str, Any], about: Mapping[str, Any], captures: Iterable[Path] = ()) -> None:
    """Write all parts, as a whole or not at all: a bundle that is there already is replaced.

    + parts: JSON by name; about: what the manifest says besides
    + captures: files to copy as they are

    Raises BundleError where the directory holds anything else than a bundle, OSError where it cannot be written.
    """
    refuse(directory)
    directory = directory.resolve()
    made = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}")
    made.mkdir(mode=0o700)
    try:
        for name, part in parts.items():
            _save(made / f"{name}.json", _json(part))
        if copied := list(captures):
            (made / CAPTURES).mkdir(mode=0o700)
            for path in copied:
                _save(made / CAPTURES / path.name, path.read_bytes())
        sums = {_within(made, path): _sum(path) for path in sorted(made.rglob("*")) if path.is_file()}
        _save(made / MANIFEST, _json({"kind": KIND, "format": FORMAT, **about, "sha256": sums}))
        if directory.exists():
            shutil.rmtree(directory)
        made.rename(directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def refuse(directory: Path) -> None:
    """Raise BundleError unless a bundle can be written there."""
    if not directory.exists():
        if not directory.resolve().parent.is_dir():
            raise BundleError(f"{directory}: there is no directory {directory.resolve().parent}")
        return
    if not directory.is_dir():
        raise BundleError(f"{directory}: is not a directory")
    if any(directory.iterdir()):
        try:
            ours = {MANIFEST, *_manifest(directory).get("sha256", ())}
        except BundleError as error:
            raise BundleError(f"{directory}: is not empty and holds no bundle: nothing was written to it") from error
        others = [name for path in sorted(directory.rglob("*")) if (name := _within(directory, path)) not in ours]
        if others and others != [CAPTURES]:
            other = next(name for name in others if name != CAPTURES)
            raise BundleError(f"{directory}: holds more than a bundle ({other}): nothing was written to it")


def read(directory: Path) -> dict[str, Any]:
    """Every part by its name, each with the sum that the manifest says. BundleError, in one sentence, otherwise."""
    manifest = _manifest(directory)
    if manifest.get("format") != FORMAT:
        wanted = f"this dnsmend reads format {FORMAT}"
        raise BundleError(f"{directory}: is a bundle of format {manifest.get('format')!r}, and {wanted}")
    parts: dict[str, Any] = {}
    sums = manifest.get("sha256")
    if not isinstance(sums, dict) or not sums:
        raise BundleError(f"{directory}: is damaged: its manifest names no files")
    for name, expected in sums.items():
        path = directory / name
        # The manifest comes with the bundle, from somebody else perhaps: it must not lead out of it.
        shown = plain.line(name, 80)
        if "\0" in name or path.is_symlink() or not path.resolve().is_relative_to(directory.resolve()):
            raise BundleError(f"{directory}: is damaged: '{shown}' is not in it")
        try:
            about = path.stat()
            # A pipe or a device would keep its reader for ever.
            if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST or _sum(path) != expected:
                raise BundleError(f"{directory}: is damaged: {shown} is not what was saved")
            if path.suffix == ".json" and path.parent == directory:
                parts[path.stem] = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, BundleError):
                raise
            why = error.strerror if isinstance(error, OSError) else "is not JSON"
            raise BundleError(f"{directory}: is damaged: {shown}: {why}") from error
    return parts


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        about = (directory / MANIFEST).stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > LONGEST_MANIFEST:
            raise BundleError(f"{directory}: is no bundle: {MANIFEST} is no file, or longer than dnsmend writes it")
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except OSError as error:
        raise BundleError(f"{directory}: is no bundle: {MANIFEST}: {error.strerror}") from error
    except BundleError:
        raise
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{directory}: is damaged: {MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise BundleError(f"{directory}: is no bundle: {MANIFEST} is of something else")
    return manifest


def _save(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _json(value: Any) -> bytes:
    """ASCII: bytes of a file that are no text (surrogates) come back as they were."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _within(directory: Path, path: Path) -> str:
    return str(path.relative_to(directory))


def _sum(path: Path) -> str:
    with path.open("rb") as stream:
        total = sha256()
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
