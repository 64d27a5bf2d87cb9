"""The machine that measures: the versions of what is compared, and room for many nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from lab import host


def versions() -> dict[str, str]:
    """Of each contender's program, "" for one that is missing."""
    found = {}
    for package in ("pyinfra", "paramiko", "mitogen"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    found["OpenSSH"] = _first_line(["ssh", "-V"])
    found["Ansible"] = _first_line(["ansible-playbook", "--version"])
    return found


def as_a_user() -> dict[str, str]:
    """The environment that contenders run in: where bytecode is not kept, every run would compile what it imports."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _first_line(argv: list[str]) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0]


@contextmanager
def room(nodes: int) -> Iterator[None]:
    """Let the kernel hold the inotify instances of so many nodes, and put its limit back afterwards."""
    before = host.INOTIFY_INSTANCES.read_text()
    wanted = host.inotify_instances(nodes)
    if int(before) < wanted:
        host.INOTIFY_INSTANCES.write_text(str(wanted))
    try:
        yield
    finally:
        if int(before) < wanted:
            host.INOTIFY_INSTANCES.write_text(before)
