"""A node's power is cut and comes back: its files stay, its processes, links of its own and rules are gone."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from lab import host, machine, network
from lab.host import LabError
from lab.places import Node, node
from lab.plan import plan_nodes
from lab.state import State

_PATIENCE = 120.0
_TRIES = 5

#: No rule is left in either backend; legacy tables stay registered, which the kernel does not take back.
NO_RULES = r"""
nft flush ruleset
for family in ip ip6; do
    for table in $(cat /proc/net/${family}_tables_names); do
        ${family}tables-legacy -w -t $table -F && ${family}tables-legacy -w -t $table -X
    done
done
"""
# The network namespace outlives the machine, and so would what a kernel forgets.
_FORGET = rf"""
for link in cilium_host $(ip -o link | sed -n 's/^[0-9]*: \(lxc[^@:]*\).*/\1/p'); do
    ip link delete "$link" || true
done
{NO_RULES}
true
"""


def reboot(record: State, name: str) -> Node:
    """Cut the power of a container, and start it again; returns when its units run. Raises LabError.

    Kernel settings of its network namespace stay as they are, which a real boot would reset.
    """
    if record.guests:
        raise LabError("only containers are booted again")
    found = record.machines[name]
    node(record, next(each for each in plan_nodes(record.nodes) if each.name == name)).run(
        ["sh", "-c", _FORGET], check=False
    )
    for process in (found.leader, found.supervisor):
        if process and process.alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    machine.end(record, name)
    host.run([*network.enter(name), "sh", "-c", "ip link delete cilium_host 2>/dev/null || true"])
    for left in reversed(range(_TRIES)):
        try:
            machine.start(record, name)
            break
        except LabError:
            # nspawn's folder of that name may be another lab's for a moment.
            if not left:
                raise
            time.sleep(1)
    again = node(record, next(each for each in plan_nodes(record.nodes) if each.name == name))
    deadline = time.monotonic() + _PATIENCE
    while not (again.active("multi-user.target") and again.active("sshd.service")):
        if time.monotonic() > deadline:
            raise LabError(f"{name} has not booted within {_PATIENCE:.0f} s; see {machine.directory(name)}/console.log")
        time.sleep(0.2)
    return again
