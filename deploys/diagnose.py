"""Say which node's dnsmasq drops what, and because of which line. Reads and asks, changes nothing.

pyinfra -y inventory deploys/diagnose.py

Exit code: 0 all well; 1 something failed, was unreachable or is unknown.
"""

import sys

from pyinfra import host, inventory, state

from checks.case import Case
from checks.catalogue import judge
from checks.finding import Status
from deploys import policy as policies
from deploys.exits import Exit
from facts import snapshot
from models import kube_services, node
from probes.fleet import answers
from probes.questions import icmp_questions, questions
from reports import terminal

hosts = snapshot.active(inventory)

# pyinfra runs this file once per host: the first one speaks for the fleet.
if host.name == hosts[0].name:
    policy = policies.of(host)
    terminal.progress(f"reading {len(hosts)} nodes")
    fleet = snapshot.fleet(hosts)
    unreachable = sorted(other.name for other in inventory if state.is_host_in_limit(other) and other not in hosts)
    fleet |= dict.fromkeys(unreachable)
    vips = node.vips(fleet, policy.dns_vips)
    services = kube_services.vips(fleet, {})
    how = policies.asking(policy)
    terminal.progress("asking from pods and nodes")
    results = answers(
        {
            asked: [
                *questions(read, vips[asked.name], services, how),
                *icmp_questions(read, vips[asked.name], how),
            ]
            for asked in hosts
            if (read := fleet[asked.name]) is not None
        }
    )
    findings = [
        finding for name in sorted(fleet) for finding in judge(Case(name, fleet, vips[name], results.get(name, [])))
    ]
    terminal.report(findings)
    if not any(vips.values()) and not services:
        terminal.progress("nothing was proven: no address of these nodes serves DNS (dns_vips in group_data/all.py)")
    well = all(finding["status"] not in (Status.FAIL, Status.UNKNOWN) for finding in findings)
    sys.exit(Exit.WELL if well and (any(vips.values()) or services) else Exit.NOT_WELL)
