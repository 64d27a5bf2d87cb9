"""Put load on each node's DNS from the node and from a pod: does the pod lose what the host does not.

pyinfra -y inventory deploys/blast.py --limit node-0
pyinfra -y inventory deploys/blast.py --limit node-0 --data blast_seconds=5 --data json=blast.json

One node at a time, within hard bounds. Changes nothing. Exit code: 0 host and pod lose alike; 1 one of them loses more,
or that is unknown.
"""

import sys
from datetime import UTC, datetime

from pyinfra import host, inventory, state

from deploys import policy as policies
from deploys import ramp, telling
from deploys.exits import Exit
from facts import snapshot
from models import kube_services, node
from probes.blast_compare import Comparison, overloaded
from reports import blast_table, terminal

hosts = snapshot.active(inventory)

# pyinfra runs this file once per host: the first one speaks for the fleet.
if host.name == hosts[0].name:
    policy = policies.of(host)
    asked = policies.ramp(policy)
    target = telling.wanted(host, ("json",)).get("json", "")
    started = datetime.now(UTC)
    terminal.progress(f"reading {len(hosts)} nodes")
    fleet = snapshot.fleet(hosts)
    if foreign := ramp.strangers(policy.dns_vips, fleet):
        raise policies.PolicyError(f"dns_vips: no node of this run has {', '.join(foreign)}: no load is put on it")
    vips = node.vips(fleet, policy.dns_vips)
    services = kube_services.vips(fleet, {}, policy.dns_services)
    unknown = {other.name: "the node could not be reached" for other in inventory if state.is_host_in_limit(other)}
    found: list[Comparison] = []
    for asking in hosts:
        read = fleet[asking.name]
        ladders = ramp.plan(read, vips[asking.name], services, asked) if read else "the node could not be read"
        unknown.pop(asking.name, None)
        if isinstance(ladders, str):
            unknown[asking.name] = ladders
            terminal.progress(f"{asking.name}: nothing was asked: {ladders}")
            continue
        for ladder in ladders:
            for comparison in ramp.climb(asking, ladder):
                found.append(comparison)
                terminal.progress(blast_table.sentence(comparison))
                if overloaded(comparison) and comparison["rate"] != asked.rates[-1]:
                    terminal.progress(f"{asking.name}: {comparison['destination']} is not asked any faster")
    blast_table.show(found, unknown)
    if target:
        blast_table.write(target, found, unknown, started, datetime.now(UTC))
    alike = bool(found) and not unknown and all(comparison["result"] == "equal" for comparison in found)
    sys.exit(Exit.WELL if alike else Exit.NOT_WELL)
