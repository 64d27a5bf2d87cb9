"""Rules on a node, as the tests load and compare them: no line of this is the product's."""

from __future__ import annotations

import re
from pathlib import Path

from lab.places import Node
from lab.reboot import NO_RULES
from tests.deploys.nodes import state

COMMANDS = ("iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy")
MIXED = Path(__file__).resolve().parent.parent / "fixtures" / "rules"

#: What may be deleted, spelt out again.
OWNED = re.compile(
    r"KUBE-(SERVICES|EXTERNAL-SERVICES|NODEPORTS|NODE-PORT|POSTROUTING|MARK-MASQ|MARK-DROP|FORWARD|FIREWALL|"
    r"PROXY-FIREWALL|SOURCE-RANGES-FIREWALL|FIRE-WALL|LOAD-BALANCER|IPVS-FILTER|IPVS-OUT-FILTER|PROXY-CANARY|"
    r"KUBELET-CANARY|IPTABLES-HINT|(SVC|SVL|SEP|FW|XLB|EXT)-[A-Z0-9]{16})"
)


def load(node: Node, command: str, text: str = "") -> None:
    """Replace the tables of one backend and family: by the mixed ruleset, or by this text."""
    text = text or (MIXED / f"mixed-{6 if command.startswith('ip6') else 4}.rules").read_text()
    node.run([f"{command}-restore", "-c"], stdin=text)


def save(node: Node, command: str) -> list[str]:
    """The rules and chains, without counters and comments."""
    lines = node.run([f"{command}-save"]).stdout.splitlines()
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")]


def saves(node: Node) -> dict[str, list[str]]:
    return {command: save(node, command) for command in COMMANDS}


def files(node: Node) -> list[str]:
    """Every file of the node, with its mode and times, and the digests of its configuration."""
    return [line for line in state(node) if re.match(r"[0-9a-f]{64} |/", line)]


def is_owned(line: str) -> bool:
    """Whether the line is of kube-proxy or the kubelet: an owned chain, a rule in it, a jump into it."""
    if match := re.match(r"(?::|-A )(\S+)", line):
        if OWNED.fullmatch(match[1]):
            return True
        jump = re.search(r" -j (\S+)$", line)
        return bool(jump and OWNED.fullmatch(jump[1]))
    return False


def others(lines: list[str]) -> list[str]:
    return [line for line in lines if not is_owned(line)]


def clear(node: Node) -> None:
    """As a node without any rule."""
    script = f"""{NO_RULES}
update-alternatives --auto iptables; update-alternatives --auto ip6tables
systemctl stop 'dnsmend-undo-*.timer'
rm -rf /var/lib/dnsmend /usr/local/sbin/*tables* /run/once
"""
    node.run(["sh", "-c", script], check=False)
