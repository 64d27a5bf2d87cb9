"""Answers that are none: of somebody else, to something else, or no message at all. By every carrier, on the wire."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.probe import Probe, Protocol, probe
from tests.probes import spoofers
from tests.probes.conftest import Network, ready, within

_PORTS: tuple[tuple[Protocol, dict[str, int]], ...] = (("udp", spoofers.UDP_PORTS), ("tcp", spoofers.TCP_PORTS))
#: What must be missing for a carrier to have its turn.
CARRIERS = {"python3": (), "bash": ("python3",), "dig": ("python3", "bash")}


@pytest.fixture(scope="module")
def spoofing(network: Network) -> Iterator[Network]:
    """The node with servers that lie."""
    within(network.node, f"ip address add {spoofers.OTHER}/24 dev eth0")
    server = subprocess.Popen(
        ["nsenter", f"--net=/proc/{network.node}/ns/net", sys.executable, str(Path(spoofers.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready(server)
        yield network
    finally:
        server.terminate()
        server.wait()
        within(network.node, f"ip address del {spoofers.OTHER}/24 dev eth0")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_none_of_them_is_an_answer(spoofing: Network, carrier: str) -> None:
    asked: list[Probe] = [
        probe("10.9.0.1", "a.x", port=port, protocol=protocol, source=spoofing.in_pod, tries=2, deadline_s=1.0)
        for protocol, ports in _PORTS
        for port in ports.values()
    ]
    honest = probe("10.9.0.1", "a.x", source=spoofing.in_pod, tries=3)
    *lied_to, fine = spoofing.ask(*asked, honest, path=spoofing.path(*CARRIERS[carrier]))
    kinds = [*(f"udp {kind}" for kind in spoofers.UDP), *(f"tcp {kind}" for kind in spoofers.TCP)]
    outcomes = {
        kind: {each["outcome"] for each in result["tries"]} for kind, result in zip(kinds, lied_to, strict=True)
    }
    assert {result["carrier"] for result in lied_to} == {carrier}
    for kind, found in outcomes.items():
        assert found <= {"timeout", "bad answer", "closed", "refused"}, f"{kind}: {found}"
    assert all("6.6.6.6" not in each["answers"] for result in lied_to for each in result["tries"])
    assert [each["outcome"] for each in fine["tries"]] == ["answered"] * 3
    # Another address or port is not heard at all: the socket is connected.
    if carrier != "dig":
        assert outcomes["udp other port"] == outcomes["udp other address"] == {"timeout"}
