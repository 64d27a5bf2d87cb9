"""Traffic through a node that must not notice a repair: ten questions a second from a pod, and a TCP connection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.places import Node

# Every question has a source port of its own, as a resolver library gives it, and three seconds for its answer.
_ASK = r"""
import json, os, random, selectors, socket, struct, sys, time
server, name, most = sys.argv[1], sys.argv[2], 6000
waiting, selector, counts = {}, selectors.DefaultSelector(), {"sent": 0, "answered": 0, "lost": 0}
question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
next_at = time.monotonic()
while True:
    now, ending = time.monotonic(), os.path.exists("/run/asking.end") or counts["sent"] >= most
    if not ending and now >= next_at:
        next_at += 0.1
        one, id = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), random.randrange(65536)
        one.connect((server, 53))
        one.send(struct.pack(">HHHHHH", id, 0x100, 1, 0, 0, 0) + question)
        waiting[one] = (id, now + 3.0)
        selector.register(one, selectors.EVENT_READ)
        counts["sent"] += 1
    for key, _ in selector.select(max(0.0, min(0.05, next_at - time.monotonic()))):
        try:
            data = key.fileobj.recv(4096)
        except OSError:
            continue
        if data[:2] == struct.pack(">H", waiting[key.fileobj][0]) and data[3] & 15 == 0:
            counts["answered"] += 1
            selector.unregister(key.fileobj); del waiting[key.fileobj]; key.fileobj.close()
    for one in [one for one, (_, end) in waiting.items() if end < now]:
        counts["lost"] += 1
        selector.unregister(one); del waiting[one]; one.close()
    if ending and not waiting:
        break
json.dump(counts, open("/run/asking.json", "w"))
"""


# Through the node's NAT-free forwarding, tracked, and long-lived: what a flush of everything would cut off or forget.
_SERVE = r"""
import socket, sys, time
listener = socket.create_server(("0.0.0.0", 7777))
one, _ = listener.accept()
while data := one.recv(100):
    one.send(data)
"""
_HOLD = r"""
import os, socket, sys, time
one = socket.create_connection((sys.argv[1], 7777), 10)
one.settimeout(10)
turns, end = 0, time.monotonic() + 600
while time.monotonic() < end and not os.path.exists("/run/flow.end"):
    one.send(b"x")
    if one.recv(1) != b"x":
        sys.exit("the connection has ended")
    turns += 1
    open("/run/flow.turns", "w").write(str(turns))
    time.sleep(0.5)
open("/run/flow.done", "w").write(str(turns))
"""


@dataclass
class Asked:
    """Per node how many questions were sent, answered and lost; filled when the load ends."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)


@contextmanager
def load(nodes: Sequence[Node]) -> Iterator[Asked]:
    """Ten questions a second to the cluster's DNS service from the pod `client` of each node (ten minutes at most)."""
    asked = Asked()
    for node in nodes:
        _start(node, "asking", _ASK, CLUSTER.dns_service, SAMPLE)
    try:
        yield asked
    finally:
        for node in nodes:
            node.run(["touch", "/run/asking.end"])
        for node in nodes:
            _wait(node, "[ -s /run/asking.json ]")
            asked.counts[node.name] = json.loads(node.read("/run/asking.json"))
            node.run(["sh", "-c", "rm -f /run/asking.*"])


@contextmanager
def connection(source: Node, target: Node) -> Iterator[None]:
    """A TCP connection from the pod `client` of one node to that of another, in use; asserts that it has survived."""
    listens = "ss -Hltn 'sport = :7777' | grep -q ."
    _start(target, "flow-server", _SERVE)
    _wait(target, f'nsenter --net="/proc/{_client(target)}/ns/net" {listens}')
    _start(source, "flow-client", _HOLD, target.plan.pod("client").address)
    _wait(source, "[ -s /run/flow.turns ]")
    try:
        yield
        source.run(["touch", "/run/flow.end"])
        _wait(source, "[ -s /run/flow.done ]")
    finally:
        for node in (source, target):
            node.run(["sh", "-c", "systemctl stop flow-client flow-server 2>/dev/null; rm -f /run/flow*"])


def _client(node: Node) -> str:
    return node.run(["systemctl", "show", "--property=MainPID", "--value", "pod-client.service"]).stdout.strip()


def _start(node: Node, unit: str, script: str, *words: str) -> None:
    """Run a Python script in the pod `client`, as a transient unit."""
    node.run(["sh", "-c", f"rm -f /run/{unit}.* /run/flow.*"])
    node.write(f"/run/{unit}.py", script)
    namespace = f"--property=NetworkNamespacePath=/proc/{_client(node)}/ns/net"
    node.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", namespace, "python3", f"/run/{unit}.py", *words])


def _wait(node: Node, condition: str) -> None:
    """Until a shell command on the node succeeds, for a minute at most. Raises LabError."""
    node.run(["sh", "-c", f"for turn in $(seq 120); do {condition} && exit; sleep 0.5; done; exit 1"])
