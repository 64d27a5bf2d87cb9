"""Heal brings back whatever was changed on a node, not only what a fault has changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import baseline
from lab.api import Lab
from lab.places import Node

pytestmark = pytest.mark.lab

# Type, mode, owner, link target and content of every file that matters.
_LISTING = r"""
find /etc /usr /opt /srv /var/lib/misc /var/lib/dpkg -xdev -printf '%p %y %m %U %G %l\n' | sort
find /etc /opt /usr/bin /usr/sbin /usr/share/dnsmasq -xdev -type f -exec sha256sum {} + | sort
"""

_DAMAGE = """
rm -rf /etc/dnsmasq.d && mkdir /etc/dnsmasq.d && echo port=5353 >/etc/dnsmasq.d/other.conf
rm -rf /usr/share/dnsmasq
rm /usr/bin/less && ln -s /bin/true /usr/bin/less
chmod 0600 /etc/hosts && chown ops /etc/default
rm /etc/resolv.conf && echo nameserver 192.0.2.1 >/etc/resolv.conf
echo changed >>/etc/dnsmasq.conf
mkdir -p /opt/tool/bin && echo new >/opt/tool/bin/file
mv /etc/cilium /etc/moved
ip address delete $VIP/24 dev bond0
ip link add extra0 type bridge
nft add table ip extra
systemd-run --quiet --unit=later --on-active=600 true
systemctl stop pod-client.service
"""


def listing(node: Node) -> str:
    return node.run(["sh", "-c", _LISTING]).stdout


def test_everything_is_brought_back(lab: Lab) -> None:
    node, root = lab.node("node-2"), Path(lab.record.root)
    lab.heal("node-2")
    before = listing(node)
    node.run(["sh", "-ec", _DAMAGE.replace("$VIP", node.plan.vip)])
    changes = baseline.changes("node-2", root)
    assert {"etc/dnsmasq.d/20-upstreams.conf", "etc/dnsmasq.d/README", "usr/bin/less", "opt/tool", "etc/cilium"} <= set(
        changes
    )
    lab.heal("node-2")
    assert baseline.changes("node-2", root) == []
    assert listing(node) == before
    assert node.active("pod-client.service")
    assert not node.active("later.timer")
    assert "extra" not in node.run(["nft", "list", "tables"]).stdout + node.run(["ip", "link"]).stdout


def test_the_cached_root_is_never_written_to(lab: Lab) -> None:
    made_first = lab.ssh_config
    newer = ["find", lab.record.root, "-newercm", str(made_first)]
    assert subprocess.run(newer, capture_output=True, text=True, check=True).stdout == ""
