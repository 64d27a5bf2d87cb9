"""kube-proxy never syncs after its restart. It is a stand-in: the lab of containers has no Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.faults.case import Fault, Scenario, Stage
from bench.faults.scenarios import BACKEND
from lab.api import Lab

# The kernel names a process by the script that it runs. It answers on kube-proxy's metrics address.
_PROXY = r"""#!/usr/bin/python3
import os, socket, time
hangs = os.path.exists("/run/fault-no-sync")
if not hangs:
    os.system("iptables -w -t nat -N KUBE-SERVICES 2>/dev/null")
last = 0 if hangs else time.time()
listener = socket.create_server(("127.0.0.1", 10249))
while True:
    client, _ = listener.accept()
    asked = b""
    while b"\r\n\r\n" not in asked and (more := client.recv(4000)):
        asked += more
    path = (asked.split() + [b"", b""])[1].decode()
    body = "iptables" if path == "/proxyMode" else f"kubeproxy_sync_proxy_rules_last_timestamp_seconds {last}\n"
    client.sendall(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())
    client.close()
"""
_PROXY_UNIT = "[Service]\nExecStart=/usr/local/bin/kube-proxy\n"


def _with_kube_proxy(lab: Lab) -> None:
    BACKEND.prepare(lab)
    node = lab.node("node-0")
    node.write("/usr/local/bin/kube-proxy", _PROXY, 0o755)
    node.write("/etc/systemd/system/kube-proxy.service", _PROXY_UNIT)
    node.run(["sh", "-c", "systemctl daemon-reload && systemctl start kube-proxy"])


#: As BACKEND, with a stand-in for kube-proxy, which is restarted.
KUBE_PROXY = Scenario(
    "iptables legacy to nft, with a stand-in for kube-proxy", _with_kube_proxy, BACKEND.words, BACKEND.nodes
)


@contextmanager
def _never_syncs(stage: Stage) -> Iterator[None]:
    """kube-proxy starts, and says that it has never synced. As before once it is started again later."""
    stage.node.write("/run/fault-no-sync", "")
    try:
        yield
    finally:
        stage.node.remove("/run/fault-no-sync")
        stage.node.run(["systemctl", "restart", "kube-proxy"])


def faults() -> list[Fault]:
    """A change of the iptables backend that kube-proxy does not follow."""
    return [Fault(KUBE_PROXY, "kube-proxy never syncs", "all the time", during=_never_syncs, codes=(1,), undo_after=30)]
