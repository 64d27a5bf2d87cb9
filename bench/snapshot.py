"""One exec against one exec per fact, on the lab that is up: `python -m bench.snapshot`.

The two are run in turn, five times; what counts is their ratio, with its spread.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

FACTS = [
    "facts.system.System",
    "facts.interfaces.Interfaces",
    "facts.routes.Routes",
    "facts.sockets.ListeningSockets",
    "facts.resolver.ResolvConf",
    "facts.resolver.Resolved",
    "facts.units.Units",
    "facts.pods.Pods",
    "facts.dnsmasq.DnsmasqInstances",
]


def seconds(*facts: str) -> float:
    """How long pyinfra takes to read these facts from every node of the inventory, connection included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pyinfra", "inventory", "fact", *facts], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print both times and the ratio."""
    connecting = statistics.median(seconds("facts.system.System") for _ in range(3))
    pairs = [(seconds("facts.snapshot.NodeSnapshot"), seconds(*FACTS)) for _ in range(5)]
    ratios = sorted(apart / together for together, apart in pairs)
    together, apart = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"one small fact, with connecting: {connecting:.2f} s")
    print(f"snapshot: {together:.2f} s; {len(FACTS)} facts apart: {apart:.2f} s")
    print(f"apart / together: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
