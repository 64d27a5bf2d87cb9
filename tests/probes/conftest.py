"""A node and a pod as two network namespaces of their own, which end with the processes that hold them.

`node` has 10.9.0.1 (a real dnsmasq on port 53, and `servers.py`), `pod` has 10.9.0.2. From the pod: 10.9.0.9
takes everything and answers nothing, 10.9.8.0/24 is unreachable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from probes import probe as probe_module
from probes.carry import RATE
from probes.dns import Answers
from probes.probe import Probe, Result, Source

TOOLS = ("sh", "bash", "python3", "dig", "timeout", "grep", "awk", "dd", "od", "nsenter", "ping", "date", "sleep")

NODE_SETUP = """
ip link set lo up
ip link add eth0 type veth peer name eth0 netns {pod}
ip address add 10.9.0.1/24 dev eth0
ip address add fd09::1/64 dev eth0 nodad
ip link set eth0 up
"""

POD_SETUP = """
ip link set lo up
ip address add 10.9.0.2/24 dev eth0
ip address add fd09::2/64 dev eth0 nodad
ip link set eth0 up
ip neighbour add 10.9.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent
ip route add unreachable 10.9.8.0/24
nft add table inet probes
nft add chain inet probes output "{{ type filter hook output priority 0; }}"
nft add rule inet probes output ip daddr 10.9.0.1 udp dport 6999 drop
"""

DNSMASQ = (
    "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts "
    "--address=/x/1.2.3.4 --cname=alias.y,name.x --port=53"
)


@dataclass(frozen=True)
class Network:
    node: int
    pod: int
    paths: Path

    @property
    def in_pod(self) -> Source:
        return probe_module.pod("default/client", self.pod, address="10.9.0.2")

    def path(self, *missing: str) -> str:
        """A PATH that has all that a node has, but for the tools that are named."""
        folder = self.paths / ("without-" + "-".join(missing))
        if not folder.exists():
            folder.mkdir()
            for tool in set(TOOLS) - set(missing):
                (folder / tool).symlink_to(required(tool))
        return str(folder)

    def run(
        self, probes: Sequence[Probe], path: str | None = None, rate: int = RATE
    ) -> tuple[subprocess.CompletedProcess[str], float]:
        """The script as pyinfra runs it: `sh -c`, on the node."""
        began = time.monotonic()
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.node}/ns/net", "sh", "-c", Answers().command(probes, rate)],
            env={**os.environ, "PATH": path or os.environ["PATH"]},
            executable=required("nsenter"),
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done, time.monotonic() - began

    def ask(self, *probes: Probe, path: str | None = None) -> list[Result]:
        done, _ = self.run(probes, path)
        assert (done.returncode, done.stderr) == (0, "")
        return Answers().process(done.stdout.splitlines())


def required(tool: str) -> str:
    """The tool of the system, not one that a Python version manager puts in front of it."""
    found = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert found, f"these tests ask real servers in network namespaces, and need {tool}"
    return found


def within(pid: int, commands: str) -> None:
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-ec", commands], check=True)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    assert os.geteuid() == 0, "these tests make network namespaces of their own, and need root"
    for tool in (*TOOLS, "dnsmasq", "ip", "nft"):
        required(tool)
    with ExitStack() as stack:

        def start(*command: str, pid: int | None = None) -> subprocess.Popen[str]:
            into = ["unshare", "--net"] if pid is None else ["nsenter", f"--net=/proc/{pid}/ns/net"]
            process = subprocess.Popen([*into, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        holders = [start("sh", "-c", "echo ready; exec sleep infinity") for _ in range(2)]
        for holder in holders:
            ready(holder)
        node, pod = (holder.pid for holder in holders)
        within(node, NODE_SETUP.format(pod=pod))
        within(pod, POD_SETUP.format())
        start(*DNSMASQ.split(), pid=node)
        ready(start(sys.executable, str(Path(__file__).with_name("servers.py")), pid=node))
        made = Network(node, pod, tmp_path_factory.mktemp("paths"))
        for _ in range(50):
            if made.ask(probe_module.probe("10.9.0.1", "a.x", tries=1))[0]["tries"][0]["outcome"] == "answered":
                break
        yield made


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
