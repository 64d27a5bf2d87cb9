"""What pyinfra has to do while it is disturbed."""

from __future__ import annotations

from bench.collateral import stale
from bench.faults.case import RUN, Scenario
from bench.faults.controller import run
from lab.api import Lab
from lab.faults import stand_ins
from lab.host import LabError

#: Services of kube-proxy, of which rules are left in the other backend.
_SERVICES = 20
_FIX = "deploys/fix_dns.py"
#: A node that has no part in it costs its reading, each time.
_ONE = ("--limit", "node-0")
_TWO = ("--limit", "node-0", "--limit", "node-1")


def _excluded(lab: Lab) -> None:
    lab.inject("dnsmasq-except-cilium", "node-0")


def _excluded_wildcard(lab: Lab) -> None:
    lab.inject("dnsmasq-except-cilium", "node-0", mode="wildcard")


def _excluded_twice(lab: Lab) -> None:
    for name in ("node-0", "node-1"):
        lab.inject("dnsmasq-except-cilium", name)


def _two_backends(lab: Lab) -> None:
    """A node of a cluster on legacy, with kube-proxy's rules in both backends; pods are not answered either."""
    node = lab.node("node-0")
    lab.inject("dnsmasq-except-cilium", node.name)
    stand_ins.kubelet(node)
    for name in ("iptables", "ip6tables"):
        node.run(["update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy"])
    for command in ("iptables-nft-restore", "iptables-legacy-restore"):
        node.run([command, "--noflush"], stdin=stale(_SERVICES))


def _fixed(lab: Lab) -> None:
    """Both nodes after a repair."""
    _excluded_twice(lab)
    _first(_FIX, "--data", "wave_nodes=1", *_TWO)


def _nothing(lab: Lab) -> None:
    """The nodes as they are."""


def _guarded(lab: Lab) -> None:
    _first("deploys/prevent.py", *_ONE)


def _first(*words: str) -> None:
    done = run(words)
    if done.code:
        raise LabError(f"pyinfra {' '.join(words)} failed before the fault:\n{done.out[-3000:]}")


EXCEPT_LO = Scenario("dnsmasq, policy except-lo", _excluded, (_FIX, *_ONE))
BIND_DYNAMIC = Scenario(
    "dnsmasq, policy bind-dynamic", _excluded_wildcard, (_FIX, "--data", "dnsmasq_interface_policy=bind-dynamic", *_ONE)
)
TWO_WAVES = Scenario(
    "dnsmasq on two nodes, in two waves", _excluded_twice, (_FIX, "--data", "wave_nodes=1", *_TWO), ("node-0", "node-1")
)
BACKEND = Scenario(
    "iptables legacy to nft, rules left in legacy, and dnsmasq",
    _two_backends,
    (_FIX, "--data", "iptables_backend=nft", *_ONE),
)
UNDO = Scenario(
    "undo.py of two nodes", _fixed, ("deploys/undo.py", "--data", f"run={RUN}", *_TWO), ("node-0", "node-1")
)
GUARDS = Scenario("prevent.py", _nothing, ("deploys/prevent.py", *_ONE))
NO_GUARDS = Scenario("prevent.py, guards removed", _guarded, ("deploys/prevent.py", *_ONE, "--data", "remove=true"))

#: By the word that --scenarios takes.
SCENARIOS = {
    "except-lo": EXCEPT_LO,
    "bind-dynamic": BIND_DYNAMIC,
    "two-waves": TWO_WAVES,
    "backend": BACKEND,
    "undo": UNDO,
    "guards": GUARDS,
    "no-guards": NO_GUARDS,
}
