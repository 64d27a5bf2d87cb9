"""Ask every node's DNS addresses from its pods and from itself; every question must be answered. Changes nothing.

pyinfra -y inventory deploys/verify.py                      # once
pyinfra -y inventory deploys/verify.py --data verify_soak=60    # again and again for a minute

Exit code: 0 everything was answered; 1 something was lost, could not be asked, or was unreachable.
"""

import sys
import time

from pyinfra import host, inventory, state

from deploys import cases
from deploys import policy as policies
from deploys.exits import Exit
from deploys.look import asked
from facts import snapshot
from models import kube_services, node
from probes.count import lost, unknown
from probes.fleet import answers
from reports import probe_table, terminal

hosts = snapshot.active(inventory)

# pyinfra runs this file once per host: the first one speaks for the fleet.
if host.name == hosts[0].name:
    policy = policies.of(host)
    fleet = snapshot.fleet(hosts)
    vips = node.vips(fleet, policy.dns_vips)
    services = kube_services.vips(fleet, {}, policy.dns_services)
    asking = asked(hosts, fleet, vips, services, policy)
    until = time.monotonic() + policy.verify_soak
    well = False
    while True:
        terminal.progress("asking from pods and nodes")
        results = answers(asking, policy.probe_rate)
        probe_table.show(results)
        complete = all(results[one.name] or not probes for one, probes in asking.items())
        every = [result for of_node in results.values() for result in of_node]
        well = bool(every) and complete and not any(lost(result) or unknown(result) for result in every)
        if not any(asking.values()):
            terminal.progress(cases.NOTHING_SERVES)
        if not well or time.monotonic() >= until:
            break
    missing = [other.name for other in inventory if state.is_host_in_limit(other) and fleet.get(other.name) is None]
    if missing:
        terminal.progress(f"could not be read: {', '.join(missing)}")
    sys.exit(Exit.WELL if well and not missing else Exit.NOT_WELL)
