"""Ask every node's DNS addresses from its pods and from itself; every question must be answered. Changes nothing.

A pod that seems to be kept from an address by a NetworkPolicy need not be: it is named, and is no failure.

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
from probes.count import asked as asked_for
from probes.count import lost, unknown
from probes.denied import denied
from probes.fleet import answers
from probes.questions import ended
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
        complete = all(results[one.name] or not probes for one, probes in asking.items())
        # Who lost something may be a pod that has ended since its node was read.
        losing = [one for one in asking if any(lost(result) or unknown(result) for result in results[one.name])]
        for one in losing:
            snapshot.forget(one)
        later = snapshot.fleet(losing)
        gone = {one: names for one in losing if (names := ended(results[one.name], later[one.name]))}
        asking |= asked(gone, later, vips, services, policy)
        instead = {}
        for one, names in gone.items():
            terminal.progress(f"{one.name}: ended meanwhile, and left out: {', '.join(names)}")
            kept = [result for result in results[one.name] if result["probe"]["source"]["name"] not in names]
            known = [result["probe"] for result in kept]
            results[one.name], instead[one] = kept, [probe for probe in asking[one] if probe not in known]
        for name, others in answers(instead, policy.probe_rate).items():
            results[name] += others
        probe_table.show(results)
        complete = complete and all(len(results[one.name]) >= len(asking[one]) for one in gone)
        every = [result for of_node in results.values() for result in of_node]
        kept_out = [
            result
            for name, of_node in results.items()
            if (read := fleet[name])
            for result in denied(of_node, {vip: node.asking(read, vip) for vip in vips[name]})
        ]
        well = bool(every) and complete
        # An echo request that a firewall or a policy drops is no loss: it tells where to look, beside lost questions.
        dns = [result for result in every if result["probe"]["protocol"] != "icmp"]
        well = well and not any(lost(result) or unknown(result) for result in dns if result not in kept_out)
        for result in kept_out:
            terminal.progress(f"{asked_for(result)}: all lost, unlike other pods: a NetworkPolicy, as it seems")
        if not any(asking.values()):
            terminal.progress(cases.NOTHING_SERVES)
        if not well or time.monotonic() >= until:
            break
    missing = [other.name for other in inventory if state.is_host_in_limit(other) and fleet.get(other.name) is None]
    if missing:
        terminal.progress(f"could not be read: {', '.join(missing)}")
    sys.exit(Exit.WELL if well and not missing else Exit.NOT_WELL)
