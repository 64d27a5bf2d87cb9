"""How long the plan for a large fleet takes on the controller: `python -m bench.rollout 1000`.

The fleet is made of copies of two recorded lab nodes, one with the incident; no node is reached.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import cast

from facts.dnsmasq_options import read_options
from facts.snapshot import Snapshot
from models import node
from models.dnsmasq_edits import with_text
from operations.dnsmasq import changes

RECORDED = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "fleet.json"


def fleet(count: int) -> dict[str, Snapshot | None]:
    """`count` nodes with addresses of their own, each with except-interface=cilium_*."""
    text = json.dumps(json.loads(RECORDED.read_text())["node-0"])
    made: dict[str, Snapshot | None] = {}
    for number in range(count):
        subnet = f"10.{number // 200}.{number % 200}"
        own = text.replace("172.25.4.", f"{subnet}.").replace("172.26.2.", f"172.{number % 200}.9.")
        read = cast(Snapshot, json.loads(own))
        dnsmasq = read["dnsmasq"]["value"]
        dnsmasq["files"] = with_text(
            dnsmasq["files"], {"/etc/dnsmasq.d/10-interfaces.conf": "bind-dynamic\nexcept-interface=cilium_*\n"}
        )
        (instance,) = dnsmasq["instances"]
        instance["options"], instance["files"] = read_options(instance["argv"], dnsmasq["files"])
        made[f"node-{number}"] = read
    return made


def main() -> None:
    """Print the time for the whole fleet and per node."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    nodes = fleet(count)
    began = time.perf_counter()
    served = node.vips(nodes, None)
    planned = sum(bool(changes(name, nodes, policy="except-lo", served=served[name])) for name in nodes)
    took = time.perf_counter() - began
    print(f"{count} nodes, {planned} changes: {took:.2f} s, {1000 * took / count:.1f} ms a node")


if __name__ == "__main__":
    main()
