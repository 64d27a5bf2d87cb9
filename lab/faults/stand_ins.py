"""What makes a node without Kubernetes look like one of a cluster: a process that is called kubelet."""

from __future__ import annotations

from lab.places import Node

# A process is called what its file is called, or what it writes here.
_KUBELET = """
import time
open("/proc/self/comm", "w").write("kubelet")
time.sleep(10 ** 9)
"""


def kubelet(node: Node) -> None:
    """Start a process with the kubelet's name, which does nothing; it ends when the node is healed."""
    if not node.active("kubelet.service"):
        node.run(["systemd-run", "--quiet", "--unit=kubelet", "python3", "-c", _KUBELET])
