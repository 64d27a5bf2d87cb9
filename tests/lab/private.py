"""A lab of a test's own, on a network of its own, so that another lab may be up beside it; and what one could leave."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lab import cgroups, host, lifecycle

_CLONE_NEWNET = 0x40000000


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def private_lab(directory: Path) -> Iterator[None]:
    """This process on a network of its own, with `directory` for the lab's state; the lab is down afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    machine_network = os.open("/proc/self/ns/net", os.O_RDONLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DNSMEND_LAB_DIR", str(directory))
        _checked(libc.unshare(_CLONE_NEWNET))
        # The tests that come after in this process have servers of their own on it.
        host.run(["ip", "link", "set", "lo", "up"])
        try:
            yield
        finally:
            lifecycle.down()
            _checked(libc.setns(machine_network, _CLONE_NEWNET))
            os.close(machine_network)


def traces() -> dict[str, object]:
    """What this lab could leave behind: its mounts and processes, and all of the network that it was started on."""
    directory = str(host.state_dir())
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                commands.append((entry / "cmdline").read_text())
    return {
        "processes": [command for command in commands if directory in command],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if directory in line],
        "control groups": list(Path("/sys/fs/cgroup").glob(f"**/{cgroups.label()}")),
        "directory": host.state_dir().exists(),
        **{
            part: json.loads(host.run(["ip", "-json", *part.split(), "show"]).stdout or "[]")
            for part in ("link", "address", "route", "rule", "neighbour")
        },
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }
