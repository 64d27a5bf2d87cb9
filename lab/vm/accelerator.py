"""Whether KVM works on this machine. /dev/kvm alone says nothing: a nested one may be there and never run a kernel."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import host

QEMU = "qemu-system-x86_64"

# A kernel without a disk panics and ends QEMU within a second.
_TRIAL_SECONDS = 12.0


@dataclass(frozen=True)
class Accelerator:
    """How QEMU runs a guest's code.

    `options` are for its command line, `kernel_line` is for the guest's; a saved state depends on `identity`.
    """

    emulated: bool
    options: tuple[str, ...]
    kernel_line: str
    identity: str


def choose(kernel: Path) -> Accelerator:
    """KVM if this machine can boot `kernel` with it, else QEMU's own translator. The answer is kept for this boot."""
    version = host.run([QEMU, "--version"]).stdout.splitlines()[0]
    # A saved state holds what the processor could, and how fast its time stamp counter is.
    processor = "".join(line for line in _processor() if line.startswith(("model name", "flags", "microcode")))
    kvm = Accelerator(False, ("-accel", "kvm", "-cpu", "host"), "", f"kvm {version} {processor}")
    options = ("-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max")
    # Every other clock is a device, and to read an emulated one is slow. Where programs lie at other addresses each
    # time, each start of one is translated anew, and takes four times as long.
    line = "clocksource=tsc tsc=reliable norandmaps init_on_alloc=0"
    translator = Accelerator(True, options, line, f"tcg {version} {processor}")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return translator
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = hashlib.sha256(f"{boot} {kvm.identity}".encode()).hexdigest()[:16]
    known = host.cache_dir() / f"kvm-{key}"
    if not known.is_file():
        for old in host.cache_dir().glob("kvm-*"):
            old.unlink()
        known.write_text("works\n" if _boots(kvm, kernel) else "broken\n")
        host.say(f"KVM on this machine: {known.read_text().strip()}")
    return kvm if known.read_text() == "works\n" else translator


def _boots(accelerator: Accelerator, kernel: Path) -> bool:
    argv = [QEMU, *accelerator.options, "-nodefaults", "-display", "none", "-serial", "stdio", "-m", "256"]
    argv += ["-no-reboot", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, env=dict(host.ENVIRONMENT), timeout=_TRIAL_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return b"Linux version" in done.stdout


def _processor() -> list[str]:
    text = Path("/proc/cpuinfo").read_text()
    return text.partition("\n\n")[0].splitlines()
