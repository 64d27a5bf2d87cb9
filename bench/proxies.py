"""The delaying proxies of a fleet, as a process of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.delay import Traffic
from lab import plan

ROOT = Path(__file__).resolve().parent.parent


class Proxies:
    """Running proxies. `ports`: by node."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.ports: dict[str, int] = json.loads(self._line())

    def traffic(self) -> dict[str, Traffic]:
        """What went through so far, by node."""
        self._process.send_signal(signal.SIGUSR1)
        return {name: Traffic(**counted) for name, counted in json.loads(self._line()).items()}

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def proxies(names: Sequence[str], rtt: float) -> Iterator[Proxies]:
    """A proxy for each of these nodes, so many milliseconds away."""
    far = [f"{name}={plan.NodePlan(int(name.rpartition('-')[2])).management}:22" for name in names]
    argv = [sys.executable, "-m", "bench.delay", "--round-trip", str(rtt), *far]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Proxies(process)
        finally:
            process.terminate()
