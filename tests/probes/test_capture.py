"""The captures' script and what it prints: limits, bounds, filters. On real nodes: tests/deploys/test_captures.py."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from models.packets import Message, message, packet
from models.pcap import frames
from probes import capture
from probes.capture import MOST_POINTS, Answered, Capture, captured, script
from probes.capture_filter import Point, Role, expression
from probes.probe import Probe, pod, probe
from tests.probes.conftest import Network, required

ASKED = probe("10.9.0.1", "x", source=pod("pod", 1, address="10.9.0.2"), tries=2, deadline_s=1)


def point(interface: str, role: Role = "uplink", host: str = "") -> Point:
    return {"interface": interface, "role": role, "netns": "", "inode": 0, "host": host}


def printed(*lines: str, points: int = 1) -> list[Capture]:
    head = f"@capture points {json.dumps([point('bond0')] * points)}"
    return captured(["a login banner", head, *lines, "@capture end"])["captures"]


def test_what_was_captured_is_put_together() -> None:
    data = base64.b64encode(b"0123456789").decode()
    (one,) = printed(
        f"@capture data 0 {data[:8]}",
        f"@capture data 0 {data[8:]}",
        "@capture said 0 2 packets captured",
        "@capture said 0 3 packets received by filter",
        "@capture said 0 0 packets dropped by kernel",
    )
    assert (one["pcap"], one["full"], one["problem"]) == (b"0123456789", False, "")


@pytest.mark.parametrize("words", ["7 packets dropped by kernel", "2000 packets captured"])
def test_a_capture_with_a_gap_is_full(words: str) -> None:
    (one,) = printed("@capture data 0 MDEyMw==", f"@capture said 0 {words}")
    assert one["full"]


def test_more_bytes_than_asked_for_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "BYTES", 2)
    (one,) = printed("@capture data 0 MDEyMw==")
    assert (one["pcap"], one["full"]) == (b"01", True)


def test_a_capture_that_failed_says_why() -> None:
    first, second = printed("@capture said 1 tcpdump: bond0: No such device exists", "@capture data 0 !!", points=2)
    assert first["problem"] == "the capture gave nothing"
    assert second["problem"] == "tcpdump: bond0: No such device exists"


def test_lines_for_captures_that_do_not_exist_are_passed_over() -> None:
    assert len(printed("@capture data 7 MDEy", "@capture data", "@capture", "@capture x y z")) == 1


def test_a_node_without_the_tool() -> None:
    assert captured(["@capture points []", "@capture missing tcpdump"])["missing"] == "tcpdump"


def test_something_else_is_an_error() -> None:
    with pytest.raises(FactProcessError):
        captured(["sudo: a password is required"])


def test_bounds_of_the_script() -> None:
    with pytest.raises(ValueError, match="interfaces"):
        script([], [ASKED])
    with pytest.raises(ValueError, match="interfaces"):
        script([point("bond0")] * (MOST_POINTS + 1), [ASKED])
    text = script([point("bond0")], [probe("10.9.0.1", "x", tries=1000, deadline_s=60)])
    assert "timeout -k 1 60 " in text
    assert "port 5353" in script([point("bond0")], [ASKED], [5353])
    assert "-c 2000 " in text and "head -c 400000" in text and " -p " in text


@pytest.mark.parametrize("name", ["www.example.com", "a.b", ".", "version.bind"])
@pytest.mark.parametrize("host", ["", "10.9.0.2", "fd09::2"])
def test_filters_are_understood(name: str, host: str) -> None:
    text = expression(point("bond0", host=host), [probe("10.9.0.1", name)], [53, 5353])
    # -d compiles, and opens no interface.
    done = subprocess.run(["tcpdump", "-d", "-y", "EN10MB", "-i", "lo", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5353" in text


def run(network: Network, points: list[Point], probes: list[Probe], path: str = "") -> Answered:
    text = script(points, probes)
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{network.node}/ns/net", "sh", "-c", text],
        executable=required("nsenter"),
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | ({"PATH": path} if path else {}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    return captured(done.stdout.splitlines())


def messages(one: Capture) -> list[Message]:
    read = [packet(frame) for frame in frames(one["pcap"])]
    return [said for each in read if each and (said := message(each))]


def inside(network: Network) -> Point:
    netns = f"/proc/{network.pod}/ns/net"
    inode = int(Path(netns).readlink().name.strip("net:[]"))
    return {"interface": "eth0", "role": "source", "netns": netns, "inode": inode, "host": "10.9.0.2"}


@pytest.mark.parametrize("host", ["10.9.0.2", ""])
@pytest.mark.parametrize(("destination", "source"), [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")])
def test_real_packets(network: Network, host: str, destination: str, source: str) -> None:
    """An uplink's filter takes IPv4 and IPv6; one for a host takes that host."""
    sender = pod("pod", network.pod, address=source)
    probes = [probe(destination, "long.x", source=sender, protocol=protocol, tries=2) for protocol in ("udp", "tcp")]
    found = run(network, [point("eth0", host=host and source)], probes)
    assert [each["outcome"] for result in found["results"] for each in result["tries"]] == ["answered"] * 4
    (one,) = found["captures"]
    assert (one["full"], one["problem"]) == (False, "")
    assert [said.response for said in messages(one)].count(True) == 4
    assert [said.response for said in messages(one)].count(False) == 4
    assert {said.name for said in messages(one)} == {"long.x."}


#: What a node has, but for tcpdump.
TOOLS = (
    "sh",
    "bash",
    "python3",
    "timeout",
    "base64",
    "head",
    "nsenter",
    "readlink",
    "grep",
    "awk",
    "sleep",
    "dd",
    "od",
    "date",
)


@pytest.fixture
def no_tcpdump(tmp_path: Path) -> str:
    """A PATH without tcpdump."""
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(required(tool))
    return str(tmp_path)


@pytest.mark.parametrize(("destination", "source"), [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")])
@pytest.mark.parametrize("bound", [True, False])
def test_python3_takes_the_same_packets(
    network: Network, no_tcpdump: str, destination: str, source: str, bound: bool
) -> None:
    sender = pod("pod", network.pod, address=source)
    asked = [probe(destination, "long.x", source=sender, protocol=protocol, tries=2) for protocol in ("udp", "tcp")]
    by_python3 = run(network, [point("eth0", host=source if bound else "")], asked, no_tcpdump)
    by_tcpdump = run(network, [point("eth0", host=source if bound else "")], asked)
    (one,), (other,) = by_python3["captures"], by_tcpdump["captures"]
    assert (one["full"], one["problem"], by_python3["missing"]) == (False, "", "")
    assert sorted(map(str, messages(one))) == sorted(map(str, messages(other)))
    assert len(messages(one)) == 8


def test_python3_sees_into_tunnels(network: Network, no_tcpdump: str, tunnel: str) -> None:
    asked = [probe(tunnel, "long.x", source=pod("pod", network.pod, address="10.8.0.2"), tries=2)]
    assert len(messages(run(network, [point("eth0")], asked, no_tcpdump)["captures"][0])) == 4


def test_python3_keeps_the_limits(network: Network, no_tcpdump: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "PACKETS", 3)
    monkeypatch.setitem(capture.FIXED, "PACKETS", "3")
    asked = [probe("10.9.0.1", "long.x", source=pod("pod", network.pod, address="10.9.0.2"), tries=5)]
    for path in (no_tcpdump, ""):
        (one,) = run(network, [point("eth0")], asked, path)["captures"]
        assert (len(messages(one)), one["full"]) == (3, True)


@pytest.fixture
def tunnel(network: Network) -> Iterator[str]:
    """An address of the node that the pod reaches through VXLAN, on the port that Cilium and flannel use."""
    ends = ((network.node, "10.9.0.1", "10.9.0.2", "10.8.0.1"), (network.pod, "10.9.0.2", "10.9.0.1", "10.8.0.2"))

    def each(command: str) -> None:
        for pid, local, remote, address in ends:
            words = command.format(local=local, remote=remote, address=address).split()
            subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words], check=True)

    each("link add vx0 type vxlan id 7 dstport 8472 local {local} remote {remote} dev eth0")
    each("address add {address}/24 dev vx0")
    each("link set vx0 up")
    yield "10.8.0.1"
    each("link del vx0")


def test_what_leaves_in_a_tunnel_is_found(network: Network, tunnel: str) -> None:
    sender = pod("pod", network.pod, address="10.8.0.2")
    asked = [probe(tunnel, "long.x", source=sender, protocol=protocol, tries=2) for protocol in ("udp", "tcp")]
    found = run(network, [point("eth0")], asked)
    assert [each["outcome"] for result in found["results"] for each in result["tries"]] == ["answered"] * 4
    seen = messages(found["captures"][0])
    assert [said.response for said in seen].count(True) == [said.response for said in seen].count(False) == 4


def test_other_names_are_left_out_on_an_uplink(network: Network) -> None:
    sender = pod("pod", network.pod, address="10.9.0.2")
    asked = [probe("10.9.0.1", name, source=sender, tries=1) for name in ("long.x", "other.x")]
    wide = script([point("eth0")], asked)
    wanted, taken = expression(point("eth0"), asked, [53]), expression(point("eth0"), asked[:1], [53])
    assert wanted in wide
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{network.node}/ns/net", "sh", "-c", wide.replace(wanted, taken)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    (one,) = captured(done.stdout.splitlines())["captures"]
    assert {said.name for said in messages(one)} == {"long.x."}


def test_a_process_that_is_no_longer_in_its_namespace(network: Network) -> None:
    gone: Point = {**inside(network), "inode": 1}
    found = run(network, [gone, point("eth0")], [probe("10.9.0.1", "a.x", tries=1)])
    assert found["captures"][0]["problem"] == "the process is no longer in its network namespace"
    assert found["captures"][1]["problem"] == ""


def test_an_interface_that_does_not_exist(network: Network) -> None:
    found = run(network, [point("nothing0"), inside(network)], [probe("10.9.0.1", "a.x", tries=1)])
    assert "nothing0" in found["captures"][0]["problem"]
    assert found["captures"][1]["problem"] == ""
    assert found["results"][0]["tries"][0]["outcome"] == "answered"
