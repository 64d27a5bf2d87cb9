"""Take back what a run has changed, on every node of the inventory that it changed, the last wave first.

    pyinfra -y inventory deploys/undo.py                                       # which runs the nodes know
    pyinfra inventory deploys/undo.py --dry --data run=20261121T235959Z-1f3a   # what would be done, changing nothing
    pyinfra -y inventory deploys/undo.py --data run=20261121T235959Z-1f3a      # run=last: the latest run

Works from any controller: everything it needs is on the nodes. A node where somebody else has changed one of the things
since is left as it is, with what that is; one that is not reached is left as well, and this can be run again. See
docs/undo.md.
"""

import sys

from pyinfra import host, inventory, logger, state

from deploys import policy as policies
from deploys import undoing
from deploys.exits import Exit
from facts import snapshot
from operations import cluster, lock, runs
from operations.wave import gate, one_batch

if not str(host.data.get("run", "")):
    # pyinfra runs this file once per host: the first one speaks for the fleet.
    if host.name == snapshot.active(inventory)[0].name:
        found = undoing.known(state)
        for line in undoing.listing(found):
            logger.info(line)
        sys.exit(Exit.NOT_WELL if found.trouble else Exit.WELL)

else:
    plan = undoing.of(state)
    kubectl = policies.cluster(host)
    together = one_batch(state)

    lock.take(
        name="One run at a time",
        nodes=plan.nodes,
        waves=plan.waves,
        **policies.lock_arguments(host),
        undoing=plan.run,
    )
    # host.loop gives each wave operations of its own: pyinfra knows an operation by its line and its turn in the loop.
    for wave in host.loop(plan.waves):
        if host.name in wave:
            runs.undo(name=f"{wave}, backwards: take back run {plan.run}", run=plan.run, _parallel=together)
        gate(name=f"{wave}, backwards: gate", wave=wave)
    if kubectl:
        cluster.uncordon(name=f"Takes pods again, if run {plan.run} had cordoned it", kubectl=kubectl, run=plan.run)
    lock.let_go(name="Free for other runs", nodes=plan.nodes)
