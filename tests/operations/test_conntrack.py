"""Only the flows that are asked for are forgotten: real ones, on a real node."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from facts.conntrack import Flows
from lab.places import Node
from operations.conntrack import delete_command, dns_flows
from tests.operations.conftest import Operate

VIP = "172.25.4.1"
VIPS = f'vips=["{VIP}"]'


def flows(destination: str, number: int, protocol: str = "udp", family: int = 4) -> Flows:
    return {
        "family": family,
        "protocol": protocol,
        "destination": destination,
        "reply_source": destination,
        "flows": number,
        "unreplied": 0,
        "longest": 30,
    }


def test_flows_are_counted_by_the_address_that_was_asked() -> None:
    # /proc/net/nf_conntrack writes an IPv6 address in full.
    full = flows("2001:0db8:0053:0000:0000:0000:0000:000a", 4, family=6)
    found = [flows("10.32.0.10", 2), flows("10.32.0.10", 3), flows("10.32.0.10", 9, "tcp"), flows("8.8.8.8", 1), full]
    assert dns_flows(found, ["10.32.0.10", "2001:db8:53::a"]) == {"10.32.0.10": 5, "2001:db8:53::a": 4}
    assert dns_flows(found, []) == {}


def test_only_an_address_reaches_the_shell() -> None:
    assert " -f ipv6 -D -p udp --orig-dst 2001:db8::a --dport 53 " in delete_command("2001:db8::a")
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        delete_command("10.32.0.10; reboot")


@pytest.fixture
def tracking(bare: Node) -> Iterator[Node]:
    """node-0 with connection tracking, and DNS flows to two addresses over both protocols."""
    bare.run(["iptables-nft", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW"])
    # What an earlier test has asked may be tracked for minutes.
    bare.run(["conntrack", "-F"], check=False)
    for _ in range(3):
        assert bare.pod("client").ask(VIP).good
    assert bare.pod("client").ask(VIP, tcp=True).good
    assert bare.ask("172.25.4.2").good
    yield bare
    bare.run(["conntrack", "-F"], check=False)


def tracked(node: Node, *options: str) -> int:
    said = node.run(["conntrack", "-L", *options], check=False)
    return len([line for line in said.stdout.splitlines() if "dst=" in line])


@pytest.mark.lab
def test_dns_flows_go_and_others_live_on(tracking: Node, operate: Operate) -> None:
    asked = ("-p", "udp", "--orig-dst", VIP, "--dport", "53")
    tcp, elsewhere = ("-p", "tcp", "--orig-dst", VIP), ("-p", "udp", "--orig-dst", "172.25.4.2")
    assert (tracked(tracking, *asked), tracked(tracking, *elsewhere)) == (3, 1)
    kept = tracked(tracking, *tcp)
    planned = operate("conntrack.flush", "dns", VIPS, dry=True)
    assert f"to forget: 3 UDP flows to {VIP}:53" in planned.stderr
    assert tracked(tracking, *asked) == 3
    done = operate("conntrack.flush", "dns", VIPS)
    assert done.returncode == 0, done.stderr
    assert f"to forget: 3 UDP flows to {VIP}:53" in done.stderr
    assert (tracked(tracking, *asked), tracked(tracking, *elsewhere)) == (0, 1)
    assert tracked(tracking, *tcp) >= kept >= 1
    again = operate("conntrack.flush", "dns", VIPS)
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]


@pytest.fixture
def without_tool(tracking: Node) -> Iterator[Node]:
    """The same node, on which nothing could delete a flow: k3s, say, has a conntrack for itself alone."""
    path = tracking.run(["sh", "-c", "command -v conntrack"]).stdout.strip()
    tracking.run(["mv", path, f"{path}.away"])
    yield tracking
    tracking.run(["mv", f"{path}.away", path])


@pytest.mark.lab
def test_flows_that_nothing_can_delete(without_tool: Node, operate: Operate) -> None:
    refused = operate("conntrack.flush", "dns", VIPS)
    assert refused.returncode == 1
    assert "refused: conntrack not found: it is what deletes flows" in refused.stderr
    warned = operate("conntrack.flush", "dns", VIPS, "required=false")
    assert warned.returncode == 0, warned.stderr
    assert "tracked flows stay (conntrack not found: it is what deletes flows)" in " ".join(warned.stderr.split())
    # Without a flow to these addresses there is nothing to delete.
    assert operate("conntrack.flush", "dns", 'vips=["192.0.2.1"]').returncode == 0


@pytest.mark.lab
def test_none_is_success(tracking: Node) -> None:
    """A flow may end between the look and the deletion: conntrack's exit code 1."""
    command = delete_command("192.0.2.1")
    assert tracking.run(["sh", "-c", command], check=False).returncode == 0
    broken = command.replace("192.0.2.1", "nothost")
    assert tracking.run(["sh", "-c", broken], check=False).returncode != 0


@pytest.mark.lab
def test_all(tracking: Node, operate: Operate) -> None:
    before = tracked(tracking)
    done = operate("conntrack.flush", "all")
    assert done.returncode == 0, done.stderr
    said = re.search(r"to forget: (\d+) tracked flows", done.stderr)
    assert said and int(said[1]) >= before
    assert tracked(tracking, "-p", "udp", "--orig-dst", "172.25.4.2") == 0
