"""A node's files as they were when `up` ended, and the way back to them.

Only what differs from the cached root is in a node's overlay, so both the copy and the comparison are small, and
whatever was changed anywhere below / is found. Changes are made through the node's own root: an overlay's upper
directory must not be written to while it is mounted (kernel, Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from lab import host, machine
from lab.places import Node

# What a running system writes by itself.
_IGNORED = (
    "home",
    "root",
    "tmp",
    "var/cache",
    "var/log",
    "var/tmp",
    "var/lib/systemd",
    "var/lib/sudo",
    "etc/.pwd.lock",
)


def keep(name: str) -> None:
    """Copy the files of the node `name` aside."""
    here = machine.directory(name)
    host.run(["cp", "--archive", str(here / "upper"), str(here / "baseline")])


def changes(name: str, root: Path) -> list[str]:
    """Paths (relative to /) that are not as in the baseline, parents before children. `root` is the cached root."""
    upper, base = machine.directory(name) / "upper", machine.directory(name) / "baseline"
    now, then = _Overlay(upper, root), _Overlay(base, root)
    paths = now.paths() | then.paths()
    return sorted(path for path in paths if not _same(now.file(path), then.file(path)))


def restore(node: Node, root: Path) -> list[str]:
    """Bring every changed file of `node` back; returns what was changed."""
    then = _Overlay(machine.directory(node.name) / "baseline", root)
    changed = changes(node.name, root)
    for path in changed:
        _put(then.file(path), node.files / path)
    return changed


class _Overlay:
    """What an overlay shows, read from its two layers (overlayfs.rst: whiteouts and opaque directories)."""

    def __init__(self, upper: Path, lower: Path) -> None:
        self._upper, self._lower = upper, lower
        own = set(_walk(upper))
        self._hiding = {path for path in own if _is_whiteout(upper / path) or _is_opaque(upper / path)}
        below = {f"{path}/{child}" for path in self._hiding for child in _walk(lower / path)}
        self._own, self._hidden = own, below - own

    def paths(self) -> set[str]:
        """Every path on which the upper layer has a say."""
        return self._own | self._hidden

    def file(self, path: str) -> Path | None:
        """The file that is seen at `path`, or None."""
        if path in self._hidden or any(str(parent) in self._hiding for parent in PurePath(path).parents):
            return self._upper / path if path in self._own and not _is_whiteout(self._upper / path) else None
        if path in self._own:
            return None if _is_whiteout(self._upper / path) else self._upper / path
        return self._lower / path if os.path.lexists(self._lower / path) else None


def _walk(top: Path) -> Iterator[str]:
    """Every path below `top`, relative to it, without what is ignored."""
    for folder, folders, names in os.walk(top):
        relative = os.path.relpath(folder, top)
        for name in [*folders, *names]:
            path = str(PurePath(relative, name))
            if path not in _IGNORED:
                yield path
            elif name in folders:
                folders.remove(name)


def _same(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None:
        return one is other
    a, b = one.lstat(), other.lstat()
    if (a.st_mode, a.st_uid, a.st_gid, a.st_rdev) != (b.st_mode, b.st_uid, b.st_gid, b.st_rdev):
        return False
    if stat.S_ISLNK(a.st_mode):
        return one.readlink() == other.readlink()
    if stat.S_ISREG(a.st_mode):
        return a.st_size == b.st_size and one.read_bytes() == other.read_bytes()
    return True


def _is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: Path) -> bool:
    if not stat.S_ISDIR(path.lstat().st_mode):
        return False
    return "trusted.overlay.opaque" in os.listxattr(path)


def _put(source: Path | None, target: Path) -> None:
    """Make `target` what `source` is (without what is in it), or absent."""
    folder = source is not None and _is_folder(source)
    if os.path.lexists(target) and not (folder and _is_folder(target)):
        if _is_folder(target):
            shutil.rmtree(target)
        else:
            target.unlink()
    if source is None:
        return
    status = source.lstat()
    if folder:
        target.mkdir(exist_ok=True)
    elif source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, target)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not source.is_symlink():
        # chown clears set-user-ID and capabilities. Other attributes are the overlay's own and stay where they are.
        target.chmod(stat.S_IMODE(status.st_mode))
        if "security.capability" in os.listxattr(source):
            os.setxattr(target, "security.capability", os.getxattr(source, "security.capability"))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
