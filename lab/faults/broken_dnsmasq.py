"""dnsmasq that cannot be read, cannot start, or cannot be made to answer by its own configuration alone."""

from __future__ import annotations

from lab import healing
from lab.faults import dnsmasq_files, interface_filters
from lab.faults.fault import Fault, Mode, expect_pods
from lab.host import LabError
from lab.places import Node

_ZONES = "/etc/dnsmasq.d/30-zones.conf"
_ZONES_TEXT = """\
# Names of the old site, until everybody has moved.
address=/old.example.com/172.25.4.9
adress=/old.example.net/172.25.4.9
"""

_FENCE = """\
table inet fence {
	chain input {
		type filter hook input priority 0; policy accept;
		iifname "cilium_host" meta l4proto { tcp, udp } th dport 53 drop
		iifname "lxc*" meta l4proto { tcp, udp } th dport 53 drop
	}
}
"""

_except_cilium = interface_filters.FAULTS[0]


def _unparsable(node: Node, _: Mode | None) -> str:
    node.write(_ZONES, _ZONES_TEXT)
    test = node.run(["dnsmasq", "--test", "-7", "/etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new"], check=False)
    if test.returncode == 0:
        raise LabError("the fault is not live: dnsmasq can read its files")
    if not node.active("dnsmasq.service"):
        raise LabError("dnsmasq does not run any more, and it should until its next start")
    return f"dnsmasq runs, and its next start will fail: {test.stderr.strip()}"


def _cannot_verify(node: Node, mode: Mode | None) -> str:
    seen = _except_cilium.apply(node, mode)
    node.run(["nft", "-f", "-"], stdin=_FENCE)
    # Dropped before dnsmasq sees it: now TCP does not even connect.
    return f"{seen}; and behind it an nftables rule: {expect_pods(node, 'timeout', 'timeout')}"


def _does_not_start(node: Node) -> str:
    if healing.restart(node, "dnsmasq.service", check=False):
        raise LabError("the fault is not live: dnsmasq has started")
    words = dnsmasq_files.last_words(node)
    return f"dnsmasq does not start ({words}); {expect_pods(node, 'refused', 'refused')}"


def _bind_conflict(node: Node, _: Mode | None) -> str:
    both = {"/etc/dnsmasq.d/lxd": "# Shipped by LXD.\nbind-interfaces\nexcept-interface=lxdbr0\n"}
    dnsmasq_files.configure(node, "bind-dynamic", files=both)
    return _does_not_start(node)


def _port_taken(node: Node, _: Mode | None) -> str:
    dnsmasq_files.configure(node, "wildcard", lines=("", "except-interface=lo"))
    node.run(["systemctl", "stop", "dnsmasq.service"])
    dnsmasq_files.set_stub(node, on=True)
    return _does_not_start(node)


def _unknown_interface(node: Node, _: Mode | None) -> str:
    dnsmasq_files.configure(node, "bind-interfaces", lines=("", "interface=bond0", "interface=cilium_hots"))
    return _does_not_start(node)


FAULTS = (
    Fault(
        "dnsmasq-unparsable",
        "a line that dnsmasq cannot read in 30-zones.conf, added while it runs: its next start would fail",
        _unparsable,
    ),
    Fault(
        "dnsmasq-cannot-verify",
        "except-interface=cilium_* and an nftables rule behind it: no configuration of dnsmasq helps pods",
        _cannot_verify,
        ("bind-dynamic", "wildcard"),
        "there except-interface does not keep pods out",
    ),
    Fault(
        "dnsmasq-cannot-start-bind-conflict",
        "bind-dynamic and bind-interfaces in two files: dnsmasq --test accepts that, a start fails",
        _bind_conflict,
    ),
    Fault(
        "dnsmasq-cannot-start-port-taken",
        "wildcard mode beside systemd-resolved's stub: port 53 is taken",
        _port_taken,
    ),
    Fault(
        "dnsmasq-cannot-start-unknown-interface",
        "bind-interfaces and a misspelt interface=",
        _unknown_interface,
    ),
)
