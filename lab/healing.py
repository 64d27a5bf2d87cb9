"""Bringing a node back to the state it had when `up` ended: files, units, links, firewall, data path."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lab import baseline
from lab.host import LabError
from lab.places import Node
from lab.plan import LAN_PREFIX_LENGTH, RESOLVERS

_PATIENCE = 15.0
_RESOLVER = "coredns"

# Legacy rules and settings are in no file. Restoring a table without rules empties it; the sysctls are those of
# `lab.network` and, for bridges, the kernel's own. networkd takes pods' links their link-local addresses.
_KERNEL = r"""
for tool in iptables-legacy ip6tables-legacy; do
    "$tool-save" | sed -n -e '/^\*/p' -e 's/^\(:[A-Z]* \)[A-Z]* .*/\1ACCEPT [0:0]/p' -e '/^COMMIT/p' | "$tool-restore"
done
for setting in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >"$setting"; done
for setting in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e "$setting" ] || echo 1 >"$setting"; done
systemctl stop systemd-networkd.service systemd-networkd.socket
for link in /sys/class/net/cilium_* /sys/class/net/lxc*; do
    ip address show dev "${link##*/}" | grep -q 'inet6 fe80' && continue
    for mode in 1 0; do echo $mode >"/proc/sys/net/ipv6/conf/${link##*/}/addr_gen_mode"; done
done
true
"""


def heal(node: Node, root: Path) -> list[str]:
    """Heal `node`; returns the paths that were brought back. Raises LabError if it does not answer in the end.

    Everything is compared with what `up` left behind, not with a list of faults: what other programs have changed on
    the node is undone too.
    """
    _stop_foreign_units(node, root)
    changed = baseline.restore(node, root)
    node.run(["systemctl", "daemon-reload"])
    node.run(["nft", "flush", "ruleset"])
    node.run(["sh", "-c", _KERNEL])
    _remove_foreign_links(node)
    _remove_foreign_namespaces(node)
    node.run(["ip", "address", "replace", f"{node.plan.vip}/{LAN_PREFIX_LENGTH}", "dev", "bond0"])
    node.run(["cilium-datapath", "routing"])
    # systemd-resolved first: a dnsmasq in wildcard mode holds the port that its stub needs.
    node.run(["systemctl", "stop", "dnsmasq.service"])
    restart(node, "systemd-resolved.service")
    restart(node, "dnsmasq.service")
    for pod in node.plan.pods:
        # A resolver remembers for seconds that the one it asks was lost: without this it would still refuse.
        if pod.name == _RESOLVER or not node.active(pod.unit) or _any_under(f"etc/pods/{pod.name}/", changed):
            restart(node, pod.unit)
    deadline = time.monotonic() + _PATIENCE
    while text := trouble(node):
        if time.monotonic() > deadline:
            raise LabError(
                f"{node.name} is not healthy after heal: {text}; `python -m lab down` and `up` give a new one"
            )
        time.sleep(0.1)
    return changed


def _any_under(folder: str, paths: list[str]) -> bool:
    return any(path.startswith(folder) for path in paths)


def restart(node: Node, *units: str, check: bool = True) -> bool:
    """Restart units; True if all are active then. Raises LabError when `check` is set and one is not."""
    # Faults come in quick succession: without this, systemd's start limit (5 in 10 s) would end them.
    node.run(["systemctl", "reset-failed", *units], check=False)
    return node.run(["systemctl", "restart", *units], check=check).returncode == 0


def trouble(node: Node) -> str:
    """One sentence about the first question on `node` that is not answered; empty if all of them are."""
    vip, client = node.plan.vip, node.pod("client")
    for place in (node, client):
        for tcp in (False, True):
            answer = place.ask(vip, tcp=tcp)
            if not answer.good:
                return f"{place.name} -> {vip} over {'TCP' if tcp else 'UDP'}: {answer}"
    for resolver in RESOLVERS:
        answer = node.ask("127.0.0.53", resolver.sample)
        if answer.addresses != (resolver.answer,):
            return f"{resolver.sample} through 127.0.0.53: {answer}"
    if node.run(["systemctl", "is-enabled", "--quiet", "pod-coredns.service"], check=False).returncode != 0:
        return ""
    coredns = node.plan.pod("coredns").address
    answer = client.ask(coredns)
    return "" if answer.good else f"client -> {coredns} (the resolver pod): {answer}"


def _stop_foreign_units(node: Node, root: Path) -> None:
    """Stop the units whose files are not part of the baseline, and transient ones."""
    folder = "etc/systemd/system/"
    added = [path.removeprefix(folder) for path in baseline.changes(node.name, root) if path.startswith(folder)]
    transient = [file.name for file in (node.files / "run/systemd/transient").glob("*")]
    units = sorted(
        {name for name in [*added, *transient] if "/" not in name and name.endswith((".service", ".timer", ".path"))}
    )
    if units:
        node.run(["systemctl", "stop", *units], check=False)


def _remove_foreign_links(node: Node) -> None:
    own = {"lo", "bond0", "mgmt0", "cilium_net", "cilium_host", *(pod.interface for pod in node.plan.pods)}
    for link in json.loads(node.run(["ip", "-json", "link"]).stdout):
        if link["ifname"] not in own:
            # Fallback devices of tunnel modules cannot be deleted, and do no harm.
            node.run(["ip", "link", "delete", link["ifname"]], check=False)


def _remove_foreign_namespaces(node: Node) -> None:
    own = {Path(pod.namespace).name for pod in node.plan.pods}
    for name in sorted({file.name for file in (node.files / "run/netns").glob("*")} - own):
        node.run(["ip", "netns", "delete", name], check=False)
