"""The kubelet's chains: they follow the node's iptables, and other programs follow them."""

from __future__ import annotations

import time
from collections.abc import Generator

from pyinfra import host
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.operation import operation

from facts.kube_proxy import KubeProxy
from facts.netfilter import Backend, KubeRules
from models.stale_rules import kubelet_backends
from operations import runs
from operations.wave import refusal

#: Restarts the unit that process $1 runs in, where that is the kubelet's own. RKE2's runs in rke2-agent.service: it
#: writes its chains within a minute by itself.
_RESTART = r"""
unit=$(ps -o unit= -p "$1") || { echo "the kubelet does not run any more" >&2; exit 1; }
case $unit in
    kubelet.service | snap.kubelet.*) systemctl restart "$unit" ;;
    *) echo "the kubelet runs in $unit, which is left alone" ;;
esac
"""


def restart_command(pid: str) -> StringCommand:
    """The command that restarts the kubelet's unit; fails where the process runs no more."""
    return StringCommand("sh", "-c", QuoteString(_RESTART), "-", pid)


@operation()
def follow(backend: Backend, wait: int = 70, run: str = runs.RUN) -> Generator[StringCommand, None, None]:
    """
    Let the kubelet write its chains to the backend that iptables is now: restart it, and wait until they are there.

    + backend: "nft" or "legacy"
    + wait: seconds that this may take; without a restart it writes them once a minute
    + run: the run's id, for the journal

    Nothing to do where its chains are there, where no kubelet runs, and where it writes none (makeIPTablesUtilChains:
    false). Pods stay as they are while it restarts.

    **Example:**

    .. code:: python

        kubelet.follow(name="The kubelet writes to legacy", backend="legacy")
    """
    proxy = host.get_fact(KubeProxy)["value"]
    reading = host.get_fact(KubeRules)
    if reading["state"] not in ("value", "empty", "tool missing"):
        yield refusal(f"refused: its rules are not known: {reading['state']}: {reading['detail']}")
        return
    held = kubelet_backends(reading["value"])
    if not proxy or not proxy["kubelet"] or not held or backend in held:
        host.noop(f"the kubelet's chains are in {backend}, or there are none")
        return
    if not host.state.is_executing:
        host.log(f"systemctl restart of the kubelet's unit (process {proxy['kubelet']})")
    yield restart_command(str(proxy["kubelet"]))
    if not host.state.is_executing:
        return
    runs.record(run, host.name, "restarted", what="kubelet")
    deadline = time.monotonic() + wait
    while backend not in kubelet_backends(host.get_fact(KubeRules)["value"]):
        if time.monotonic() > deadline:
            yield refusal(f"the kubelet has not written its chains to {backend} within {wait} s")
            return
        time.sleep(1)
