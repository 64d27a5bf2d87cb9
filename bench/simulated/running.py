"""Start and end the simulated fleet's server, and count what it has taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh

from bench.simulated import fleet

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path(__file__).resolve().parent / "inventory.py"


class Used(NamedTuple):
    """What the server has used: seconds of processor time, peak resident memory."""

    cpu_s: float
    rss_kib: int


class Running:
    """A fleet that answers. `environment` is what pyinfra needs to find it; `used` is known once it has ended."""

    def __init__(self, plan: fleet.Plan, folder: Path) -> None:
        self.plan = plan
        self.environment = {"DNSMEND_FLEET": str(folder)}
        self.used = Used(0.0, 0)


@contextmanager
def running(folder: Path, hosts: int, **shares: Any) -> Iterator[Running]:
    """
    A fleet of so many hosts, with what a `Plan` may have besides.

    + folder: for keys and lists, of the caller's

    Raises RuntimeError where the server does not start.
    """
    # Below the ports of outgoing connections, and apart from others that run beside; the next three are taken as well.
    port = 10_000 + 4 * (os.getpid() % 5_000)
    for name in ("client", "host"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / name))
        key.write_public_key(str(folder / f"{name}.pub"))
    plan = fleet.Plan(hosts=hosts, port=port, key=folder / "host", **shares)
    public = (folder / "host.pub").read_text().split()[:2]
    lines = (f"[{fleet.address(n)}]:{plan.port_of(n)} {' '.join(public)}\n" for n in range(hosts))
    (folder / "known_hosts").write_text("".join(lines))
    (folder / "plan.json").write_text(json.dumps(asdict(plan), default=str))
    options = [f"--{key.replace('_', '-')}={value}" for key, value in asdict(plan).items()]
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.simulated.server", *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    run = Running(plan, folder)
    try:
        if not server.stdout or server.stdout.readline() != "ready\n":
            raise RuntimeError("the simulated fleet did not start")
        yield run
        server.terminate()
        said = json.loads(server.stdout.readline())
        run.used = Used(said["cpu"], said["rss_kib"])
    finally:
        server.kill()
        server.wait()
