"""The machine that the lab runs on: its commands, its directories, and what it must offer."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import plan


class LabError(Exception):
    """The lab cannot do what was asked. The message is one sentence for a person."""


# Command -> Debian package that brings it.
REQUIRED_COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Mapping[str, str] = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/root"}

_started = time.monotonic()


def say(text: str) -> None:
    """Write one line for people to stderr, with the seconds since the program started."""
    print(f"[{time.monotonic() - _started:5.1f}s] {text}", file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """Where built roots are kept: `$DNSMEND_CACHE`, else `$XDG_CACHE_HOME/dnsmend`, else /var/cache/dnsmend."""
    if chosen := os.environ.get("DNSMEND_CACHE"):
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME", "/var/cache")).resolve() / "dnsmend"


def state_dir() -> Path:
    """Where a running lab keeps its files: `$DNSMEND_LAB_DIR`, else /var/lib/dnsmend-lab."""
    return Path(os.environ.get("DNSMEND_LAB_DIR", "/var/lib/dnsmend-lab")).resolve()


def run(
    argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command on the machine with a clean environment. Raises LabError when it fails and `check` is set."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            env=dict(ENVIRONMENT),
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout:.0f} s") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"`{' '.join(argv)}` failed ({done.returncode}): {said}")
    return done


# The same for nodes that are virtual machines.
REQUIRED_FOR_GUESTS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
}


def require_machine(*, guests: bool = False) -> None:
    """Raise LabError unless this machine can run the lab: root, Linux, and the commands it needs."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and mounts: run it as root")
    commands = {**REQUIRED_COMMANDS, **(REQUIRED_FOR_GUESTS if guests else {})}
    missing = sorted({package for command, package in commands.items() if shutil.which(command, path=_PATH) is None})
    if missing:
        raise LabError(f"missing on this machine: apt-get install {' '.join(missing)}")


#: How many inotify instances one user may have: systemd takes some on every node, as root of this machine.
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


def inotify_instances(nodes: int) -> int:
    """How many a lab of so many nodes needs, with what else root runs: five on a node that has booted (measured)."""
    return 64 + 6 * (nodes + 1)


def require_inotify(nodes: int) -> None:
    """Raise LabError if so many nodes could not start: their systemd would hang without a word."""
    wanted, limit = inotify_instances(nodes), int(INOTIFY_INSTANCES.read_text())
    if limit < wanted:
        raise LabError(
            f"{nodes} nodes need more inotify instances than the {limit} of this machine: "
            f"sysctl fs.inotify.max_user_instances={wanted}"
        )


def require_free_range() -> None:
    """Raise LabError if the management link's name or its range is in use on this machine."""
    if has_link(plan.MANAGEMENT_LINK):
        raise LabError(f"a link called {plan.MANAGEMENT_LINK} already exists on this machine, and it is not this lab's")
    wanted = ipaddress.ip_network(plan.MANAGEMENT_NETWORK)
    for family_argument, key in (("route", "dst"), ("addr", "addr_info")):
        for entry in json.loads(run(["ip", "-json", "-4", family_argument, "show"]).stdout or "[]"):
            networks = (
                [f"{info['local']}/{info['prefixlen']}" for info in entry[key]] if key == "addr_info" else [entry[key]]
            )
            for text in networks:
                if text == "default":
                    continue
                if ipaddress.ip_network(text, strict=False).overlaps(wanted):
                    device = entry.get("dev") or entry.get("ifname")
                    raise LabError(
                        f"{text} is in use on this machine (dev {device}), and the lab needs "
                        f"{plan.MANAGEMENT_NETWORK} for its management link"
                    )


def has_link(name: str) -> bool:
    """True if the machine has a network link of that name. /sys may show another network namespace."""
    return any(name == link for _, link in socket.if_nameindex())


def has_systemd() -> bool:
    """True if systemd is this machine's init: sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Hold an exclusive lock on `directory`, made if needed; a child that inherits the descriptor holds it as well.

    Raises LabError if another program holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another `python -m lab` is at work in {directory}") from error
        yield descriptor
    finally:
        os.close(descriptor)
