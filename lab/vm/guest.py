"""Starting a virtual machine: from its kernel, or from a saved state; and saving one.

QEMU runs in the namespace that holds the lab's bridges, on two tap links there. Saving is a migration to a file
(QEMU, docs/devel/migration.rst): unlike a snapshot inside the disk's image, it leaves the disk to be the unchanging
base of any number of machines.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import host, machine, network
from lab.host import LabError
from lab.state import Machine, State
from lab.vm import accelerator
from lab.vm.accelerator import Accelerator
from lab.vm.disk import PORTS, Disk
from lab.vm.qmp import Monitor

MEMORY_MIB = 512

KERNEL_LINE = "console=ttyS0 quiet panic=-1 net.ifnames=0 mitigations=off random.trust_cpu=on nowatchdog"
_AGENT = Path(__file__).with_name("agent.py")

# Emulated on two shared cores a machine needs half a minute to boot; with KVM it is three seconds.
_BOOT_SECONDS = 300.0
_STATE_SECONDS = 120.0


@dataclass(frozen=True)
class Saved:
    """A machine at rest: its disk, its memory, and the archive it was started with. Only ever read."""

    directory: Path
    name: str

    @property
    def disk(self) -> Path:
        """A qcow2 image over the common disk."""
        return self.directory / f"{self.name}.qcow2"

    @property
    def memory(self) -> Path:
        """QEMU's migration stream."""
        return self.directory / f"{self.name}.state"

    @property
    def seed(self) -> Path:
        """A tar archive: `files/`, and `network` for ip(8)."""
        return self.directory / f"{self.name}.seed"


def entry(name: str) -> tuple[str, ...]:
    """The words that run a command in the machine `name`, as root."""
    return (sys.executable, "-I", "-S", str(_AGENT), ",".join(str(path) for path in _agent_pipes(name)))


def run(
    name: str, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a command in the machine `name` as root. Raises LabError if it fails and `check` is set."""
    return host.run([*entry(name), *argv], stdin=stdin, check=check, timeout=timeout)


def boot(state: State, saved: Saved, disk: Disk, how: Accelerator) -> Machine:
    """Start the machine from its kernel with `saved.seed`; its disk becomes `saved.disk`. Raises LabError."""
    _overlay(disk.disk, "raw", saved.disk)
    return _start(state, saved, disk, how, saved.disk)


def resume(state: State, saved: Saved, disk: Disk, how: Accelerator) -> Machine:
    """Start the machine from its saved state, on a new disk over the saved one. Raises LabError."""
    own = machine.directory(saved.name) / "disk.qcow2"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.unlink(missing_ok=True)
    _overlay(saved.disk, "qcow2", own)
    found = _start(state, saved, disk, how, own, incoming=saved.memory)
    with _monitor(saved.name) as monitor:
        monitor.wait_for_migration(_STATE_SECONDS)
        monitor.do("cont")
    return found


def save(saved: Saved) -> None:
    """Stop the machine and write its memory. It stays stopped: what it would do next belongs to those that resume."""
    with _monitor(saved.name) as monitor:
        monitor.do("stop")
        monitor.do("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        monitor.do("migrate", uri=f"exec:cat >{shlex.quote(str(saved.memory))}")
        monitor.wait_for_migration(_STATE_SECONDS)


def wait_until_it_answers(name: str) -> None:
    """Wait for the guest agent. Raises LabError."""
    deadline = time.monotonic() + _BOOT_SECONDS
    while not _answers(name):
        if time.monotonic() > deadline:
            raise LabError(f"{name} has not booted within {_BOOT_SECONDS:.0f} s; see {machine.directory(name)}")
        time.sleep(0.2)


def _answers(name: str) -> bool:
    try:
        return run(name, ["true"], check=False, timeout=5.0).returncode == 0
    except LabError:
        # Nobody reads the port yet.
        return False


def _start(
    state: State, saved: Saved, disk: Disk, how: Accelerator, own: Path, *, incoming: Path | None = None
) -> Machine:
    here = machine.directory(saved.name)
    here.mkdir(parents=True, exist_ok=True)
    _monitor_socket(saved.name).unlink(missing_ok=True)
    for path in _agent_pipes(saved.name):
        for end in (path.with_suffix(".in"), path.with_suffix(".out")):
            end.unlink(missing_ok=True)
            os.mkfifo(end, 0o600)
    argv = [
        accelerator.QEMU,
        *how.options,
        *("-name", f"dnsmend-{saved.name}"),
        *("-machine", "q35"),
        *("-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initramfs), "-append", f"{KERNEL_LINE} {how.kernel_line}"),
        *("-drive", f"file={own},format=qcow2,if=virtio,cache=unsafe"),
        *("-drive", f"file={saved.seed},format=raw,if=virtio,readonly=on"),
        *("-serial", f"file:{here / 'kernel.log'}"),
        *("-qmp", f"unix:{_monitor_socket(saved.name)},server=on,wait=off"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    ]
    for port, path in enumerate(_agent_pipes(saved.name), 1):
        # A socket without a client would make the guest's agent look for one ten times a second.
        argv += ["-chardev", f"pipe,id=agent{port},path={path}"]
        argv += ["-device", f"virtserialport,nr={port},chardev=agent{port},name=agent{port}"]
    for link in ("lan", "mgmt"):
        tap = network.tap(link, saved.name)
        argv += ["-netdev", f"tap,id={link},ifname={tap},script=no,downscript=no"]
        argv += ["-device", f"virtio-net-pci,netdev={link},mac={_mac(tap)}"]
    if incoming is not None:
        argv += ["-incoming", f"exec:cat {shlex.quote(str(incoming))}"]
    found = machine.run_program(state, saved.name, [*network.enter(network.LAN), *argv])
    deadline = time.monotonic() + 20
    while not _monitor_socket(saved.name).exists():
        if not found.alive() or time.monotonic() > deadline:
            raise LabError(f"QEMU does not start {saved.name}; see {here / 'console.log'}")
        time.sleep(0.02)
    return found


def _monitor(name: str) -> Monitor:
    deadline = time.monotonic() + 20
    while True:
        try:
            return Monitor(_monitor_socket(name))
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"the monitor of {name} does not answer: {error}") from error
            time.sleep(0.02)


def _overlay(base: Path, kind: str, image: Path) -> None:
    host.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", kind, str(image)])


def _agent_pipes(name: str) -> list[Path]:
    return [machine.directory(name) / f"agent-{port}" for port in range(1, PORTS + 1)]


def _monitor_socket(name: str) -> Path:
    return machine.directory(name) / "monitor.sock"


def _mac(link: str) -> str:
    # 02: locally administered, unicast.
    digest = hashlib.sha256(link.encode()).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])
