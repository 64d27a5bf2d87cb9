"""The lab's control groups, on a machine that systemd does not run: with systemd, its units have them.

Every process of the lab is in one of them, also one that a crash kept from the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from lab import host


def label() -> str:
    """Name of the lab's group, and prefix of its units: one per state directory, so that two labs never meet."""
    return f"dnsmend-lab-{hashlib.sha256(str(host.state_dir()).encode()).hexdigest()[:8]}"


def make(name: str) -> list[Path]:
    """Make the groups of the machine `name`, one per tree."""
    groups = [top / label() / name for top in _trees()]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    return groups


def processes() -> list[int]:
    """The pids of every process of the lab, as this machine numbers them."""
    files = [file for group in _existing() for file in group.glob("**/cgroup.procs")]
    # 0 stands for a process that this pid namespace does not show.
    return sorted({int(pid) for file in files for pid in file.read_text().split()} - {0})


def remove() -> None:
    """Remove the groups, which must be empty."""
    for group in _existing():
        for child in sorted(group.glob("**/"), key=lambda path: len(path.parts), reverse=True):
            child.rmdir()
        if group.is_dir():
            group.rmdir()


def _existing() -> list[Path]:
    if host.has_systemd():
        return []
    return [group for top in _trees() if (group := top / label()).is_dir()]


def _trees() -> Iterator[Path]:
    """The trees that systemd manages: version 2, and version 1's `name=systemd` (cgroups(7))."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            yield Path(before.split()[4])
