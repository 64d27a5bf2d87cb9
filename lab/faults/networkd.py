"""systemd-networkd with a .network file that matches pods' links too."""

from __future__ import annotations

import time

from lab.faults import stand_ins
from lab.faults.fault import Fault, Mode
from lab.host import LabError
from lab.places import Node

_FILE = "/etc/systemd/network/99-all.network"


def _managed(node: Node, _: Mode | None) -> str:
    stand_ins.kubelet(node)
    node.write(_FILE, "[Match]\nName=* !bond* !mgmt*\n\n[Network]\nLinkLocalAddressing=no\n")
    node.run(["systemctl", "start", "systemd-networkd.service"])
    link = node.plan.pod("client").interface
    deadline = time.monotonic() + 10
    while "inet6 fe80" in (now := node.run(["ip", "address", "show", "dev", link]).stdout):
        if time.monotonic() > deadline:
            raise LabError(f"the fault is not live: {now.strip()}")
        time.sleep(0.1)
    return f"networkd manages {link}, and has taken its link-local address away"


FAULTS = (
    Fault("networkd-manages-pods", "networkd manages pods' links as well (IPv4 loses nothing by that yet)", _managed),
)
