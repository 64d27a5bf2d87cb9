"""Say which node drops what, and because of which line or rule. Reads and asks, changes nothing.

pyinfra -y inventory deploys/diagnose.py

Exit code: 0 all well; 1 something failed, was unreachable or is unknown.
"""

import sys

from pyinfra import host, inventory, state

from checks.catalogue import judge
from checks.finding import Status
from deploys import cases
from deploys import policy as policies
from deploys.exits import Exit
from facts import snapshot
from reports import terminal

hosts = snapshot.active(inventory)

# pyinfra runs this file once per host: the first one speaks for the fleet.
if host.name == hosts[0].name:
    policy = policies.of(host)
    unreachable = [other.name for other in inventory if state.is_host_in_limit(other) and other not in hosts]
    fleet = cases.of(hosts, unreachable, policy.dns_vips, policies.asking(policy))
    findings = [finding for case in fleet for finding in judge(case)]
    terminal.report(findings)
    serves = any(case.vips or case.dns_services for case in fleet)
    if not serves:
        terminal.progress("nothing was proven: no address of these nodes serves DNS (dns_vips in group_data/all.py)")
    well = all(finding["status"] not in (Status.FAIL, Status.UNKNOWN) for finding in findings)
    sys.exit(Exit.WELL if well and serves else Exit.NOT_WELL)
