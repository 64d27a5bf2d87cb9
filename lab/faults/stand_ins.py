"""What makes a node without Kubernetes look like one of a cluster: processes called kubelet and kube-proxy."""

from __future__ import annotations

from lab.places import Node

# A process is called what its file is called, or what it writes here.
_KUBELET = """
import time
open("/proc/self/comm", "w").write("kubelet")
time.sleep(10 ** 9)
"""

#: While a node has this file, a kube-proxy that starts says that it has never synced.
NO_SYNC = "/run/stand-in-hangs"
KUBE_PROXY = "/usr/local/bin/kube-proxy"
# The kernel names a process by the script that it runs. It answers on kube-proxy's metrics address.
_KUBE_PROXY = r"""#!/usr/bin/python3
import os, socket, time
hangs = os.path.exists("@NO_SYNC@")
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


def kubelet(node: Node) -> None:
    """Start a process with the kubelet's name, which does nothing; it ends when the node is healed."""
    if not node.active("kubelet.service"):
        node.run(["systemd-run", "--quiet", "--unit=kubelet", "python3", "-c", _KUBELET])


def kube_proxy(node: Node, units: str = "/run/systemd/system") -> None:
    """Start a kube-proxy.service that writes one chain to the node's iptables and tells when it has synced.

    + units: systemd's folder for its unit; what is in /etc goes when the node is healed
    """
    node.write(KUBE_PROXY, _KUBE_PROXY.replace("@NO_SYNC@", NO_SYNC), 0o755)
    node.write(f"{units}/kube-proxy.service", f"[Service]\nExecStart={KUBE_PROXY}\n")
    node.run(["sh", "-c", "systemctl daemon-reload && systemctl start kube-proxy"])


def no_kube_proxy(node: Node) -> None:
    """End that of /run, and take its files away; its chain stays, as a real one's would. It need not be there."""
    node.run(["systemctl", "stop", "kube-proxy.service"], check=False)
    node.run(["rm", "-f", KUBE_PROXY, "/run/systemd/system/kube-proxy.service", NO_SYNC])
    node.run(["systemctl", "daemon-reload"])
