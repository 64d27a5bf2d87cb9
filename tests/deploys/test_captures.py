"""Captures on real nodes: where the packets of the incident end, and that nothing of it remains on the node."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.host import Host

from checks.captured import Journey
from checks.diagnosis import Hop, Stage
from deploys import evidence
from facts import snapshot
from lab.api import Lab
from lab.places import Node
from models.pcap import frames
from probes.capture import script
from probes.points import points
from probes.probe import pod, probe
from probes.questions import Asking

pytestmark = pytest.mark.lab

HOW = Asking("www.example.com", "kubernetes.default.svc.cluster.local", 3, 1.0, 3)
VIP = "172.25.4.1"
#: An address of the LAN that nobody has, but whose neighbour is known: what goes there leaves, and is never answered.
NOBODY = "172.25.4.200"


def hop(node: Node, source: str, destination: str = VIP, stage: Stage = "endpoint to upstream", **change: str) -> Hop:
    losses = [
        {"protocol": protocol, "name": change.get("name", "www.example.com"), "sent": 20, "lost": 20, "unknown": 0}
        | {"low": 0.83, "high": 1.0, "outcomes": {"timeout": 20}, "median_ms": None, "slowest_ms": None}
        for protocol in ("udp", "tcp")
    ]
    return {
        "id": f"{node.name}/{source}/{destination}:53",
        "stage": stage,
        "node": node.name,
        "source": source,
        "destination": destination,
        "port": 53,
        "owner": node.name,
        "because": [],
        "losses": losses,  # type: ignore[typeddict-item]
        "state": "loses",
    }


def captured(host: Host, hops: list[Hop], directory: Path) -> list[Journey]:
    snapshot.forget(host)
    found = evidence.captures([host], snapshot.fleet([host]), hops, HOW, directory)
    assert found["notes"] == []
    return found["journeys"]


@pytest.fixture
def node(healed: Lab) -> Node:
    return healed.node("node-0")


@pytest.fixture
def client(node: Node) -> str:
    return f"pod {node.plan.pod('client').address}"


def remains(node: Node) -> list[str]:
    """Processes, files and promiscuous interfaces that a capture could leave behind."""
    processes = node.run(["ps", "-eo", "comm="]).stdout.split()
    files = node.run(["find", "/run", "/tmp", "/var/tmp", "-name", "*cap*", "-newer", "/proc/1/cmdline"]).stdout
    links = node.run(["ip", "-d", "-o", "link"]).stdout
    return [
        *(name for name in processes if name in ("tcpdump", "python3", "timeout", "base64", "head")),
        *files.split(),
        *(line for line in links.splitlines() if "promiscuity 0" not in line and "promiscuity" in line),
    ]


def test_a_healthy_way(reached: Host, node: Node, client: str, tmp_path: Path) -> None:
    directory = tmp_path / "captures"
    udp, tcp = captured(reached, [hop(node, client)], directory)
    for journey in (udp, tcp):
        assert (journey["sent"], journey["back"]) == (3, 3), journey
        assert journey["arrived"] == {"cilium_host": 3}
        assert ": 3 sent, 3 arrived on cilium_host, all answered" in journey["sentence"]
        assert journey["unseen"] == journey["errors"] == []
    files = [Path(name) for name in udp["files"]]
    assert len(files) == 3
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
    assert [len(list(frames(file.read_bytes()))) > 6 for file in files][:2] == [True, True]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert remains(node) == []


def test_the_incident(reached: Host, node: Node, client: str, healed: Lab, tmp_path: Path) -> None:
    healed.inject("dnsmasq-except-cilium", "node-0")
    udp, tcp = captured(reached, [hop(node, client)], tmp_path)
    assert udp["sentence"] == (
        f"node-0: {client} -> {VIP}:53 UDP www.example.com A: 3 sent, 3 arrived on cilium_host, never answered; "
        "nothing on bond0"
    )
    assert (tcp["answered"], tcp["closed"], tcp["left"]) == (0, 3, {"bond0": 0})
    assert "3 closed by the other end without an answer; nothing on bond0" in tcp["sentence"]


@pytest.fixture
def dead_upstream(node: Node) -> Iterator[None]:
    node.run(["ip", "neigh", "replace", NOBODY, "lladdr", "02:00:00:00:00:99", "dev", "bond0", "nud", "permanent"])
    node.write("/etc/dnsmasq.d/20-upstreams.conf", f"no-resolv\nserver={NOBODY}\n")
    node.run(["systemctl", "restart", "dnsmasq"])
    yield
    node.run(["ip", "neigh", "del", NOBODY, "dev", "bond0"])


def test_an_upstream_that_is_dead(reached: Host, node: Node, client: str, dead_upstream: None, tmp_path: Path) -> None:
    hops = [hop(node, client), hop(node, "host", NOBODY, "dnsmasq to upstream")]
    journeys = captured(reached, hops, tmp_path)
    udp = journeys[0]
    assert udp["arrived"] == {"cilium_host": 3}
    assert udp["back"] == 0
    assert udp["left"]["bond0"] >= 1
    assert "left on bond0, no answer came back" in udp["sentence"]
    direct = next(each for each in journeys if each["asked"].startswith(f"host -> {NOBODY}:53 UDP"))
    assert direct["left"] == {"bond0": 3}
    assert "3 sent, never answered; 3 left on bond0, no answer came back" in direct["sentence"]


def test_an_upstream_on_a_port_of_its_own(
    reached: Host, node: Node, client: str, dead_upstream: None, tmp_path: Path
) -> None:
    node.write("/etc/dnsmasq.d/20-upstreams.conf", f"no-resolv\nserver={NOBODY}#5335\n")
    node.run(["systemctl", "restart", "dnsmasq"])
    upstream = hop(node, "host", NOBODY, "dnsmasq to upstream")
    upstream |= {"port": 5335, "state": "ok"}
    udp = captured(reached, [hop(node, client), upstream], tmp_path)[0]
    assert udp["back"] == 0
    assert udp["left"]["bond0"] >= 1, udp["sentence"]


def test_two_pods_at_once(reached: Host, node: Node, client: str, tmp_path: Path) -> None:
    """Each has captures and files of its own, also where both arrive on the same interface."""
    other = f"pod {node.plan.pod('coredns').address}"
    journeys = captured(reached, [hop(node, client), hop(node, other)], tmp_path)
    assert [(one["sent"], one["arrived"], one["back"]) for one in journeys] == [(3, {"cilium_host": 3}, 3)] * 4
    assert len(set(journeys[0]["files"]) & set(journeys[2]["files"])) == 1
    assert len(set(journeys[0]["files"]) | set(journeys[2]["files"])) == len(list(tmp_path.iterdir())) == 5


def test_the_host_itself(reached: Host, node: Node, tmp_path: Path) -> None:
    udp, tcp = captured(reached, [hop(node, "host", VIP, "host to dnsmasq")], tmp_path)
    assert (udp["sent"], udp["back"], tcp["sent"], tcp["back"]) == (3, 3, 3, 3), (udp, tcp)


@pytest.mark.parametrize("fault", [None, "dnsmasq-except-cilium"])
def test_python3_captures_where_there_is_no_tcpdump(
    reached: Host, node: Node, client: str, healed: Lab, fault: str | None, tmp_path: Path
) -> None:
    if fault:
        healed.inject(fault, "node-0")
    node.remove("/usr/bin/tcpdump")
    udp, tcp = captured(reached, [hop(node, client)], tmp_path)
    for journey in (udp, tcp):
        assert (journey["sent"], journey["arrived"]) == (3, {"cilium_host": 3}), journey
        assert (journey["back"], journey["unseen"]) == (0 if fault else 3, [])
    assert tcp["closed"] == (3 if fault else 0)
    if fault:
        assert udp["sentence"].endswith("never answered; nothing on bond0")
    assert remains(node) == []


def test_a_node_without_tcpdump_and_python3(
    reached: Host, node: Node, client: str, healed: Lab, tmp_path: Path
) -> None:
    healed.inject("tool-missing-python3", "node-0")
    node.remove("/usr/bin/tcpdump")
    snapshot.forget(reached)
    found = evidence.captures([reached], snapshot.fleet([reached]), [hop(node, client)], HOW, tmp_path)
    assert found["journeys"] == []
    assert found["notes"] == ["node-0: nothing was captured: tool missing: tcpdump"]


def test_a_pod_that_is_gone(reached: Host, node: Node, tmp_path: Path) -> None:
    snapshot.forget(reached)
    fleet = snapshot.fleet([reached])
    found = evidence.captures([reached], fleet, [hop(node, "pod 172.26.2.9")], HOW, tmp_path)
    assert found["journeys"] == []
    assert found["notes"] == ["node-0: pod 172.26.2.9 is gone: its questions were not captured"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_remains_when_the_controller_dies(reached: Host, node: Node, healed: Lab, how: signal.Signals) -> None:
    """The exec is killed in the middle of the questions; the captures' own time limit is far from over."""
    healed.inject("dnsmasq-except-cilium", "node-0")
    snapshot.forget(reached)
    read = snapshot.of(reached)
    assert read is not None
    address = node.plan.pod("client").address
    asker = next(each for each in read["pods"]["value"] if address in each["addresses"])
    asked = probe(VIP, "www.example.com", source=pod("pod", asker["pid"], address=address), tries=3, deadline_s=3)
    text = script(points(read, [asked], []), [asked])
    running = subprocess.Popen([*node.entry, "sh", "-c", text], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    wait_for(lambda: "tcpdump" in remains(node))
    # nsenter waits for the shell, which is in another process namespace.
    (shell,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(shell), how)
    assert running.stdout is not None
    running.stdout.close()
    running.wait()
    wait_for(lambda: remains(node) == [])


def wait_for(happened: object, seconds: float = 20) -> None:
    assert callable(happened)
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)
