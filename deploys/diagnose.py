"""Say which hop of cluster DNS loses what, and because of which line or rule. Reads and asks, changes nothing.

    pyinfra -y inventory deploys/diagnose.py
    pyinfra -y inventory deploys/diagnose.py --data json=FILE --data html=FILE    # also junit and markdown; - is stdout
    pyinfra -y inventory deploys/diagnose.py --data before=FILE --data markdown=FILE   # against an earlier json=FILE
    pyinfra -y inventory deploys/diagnose.py --data capture=DIR                   # with packets of what loses
    pyinfra -y inventory deploys/diagnose.py --data bundle=DIR                    # keep all that was seen
    pyinfra -y @local deploys/diagnose.py --data replay=DIR                       # judge that again, offline

Exit code: 0 all well; 1 something failed, was unreachable or is unknown.
"""

import sys
from pathlib import Path

from pyinfra import host, inventory, state

from deploys import bundle, cases, evidence, replay, telling
from deploys import policy as policies
from deploys.exits import Exit
from deploys.look import look, look_back
from facts import snapshot
from reports import terminal

hosts = snapshot.active(inventory)

# pyinfra runs this file once per host: the first one speaks for the fleet.
if host.name == hosts[0].name:
    policy = policies.of(host)
    reports, before = telling.wanted(host), telling.earlier(host.data.get("before"))
    kept, replayed = telling.folder(host, "bundle"), telling.folder(host, "replay")
    pseudonyms = policies.switch(host, "pseudonyms")
    if kept:
        bundle.check(kept)

    packets: list[str] = []
    if replayed:
        # The files that it names are not taken over: somebody else may have chosen their paths.
        seen = bundle.load(replayed)
        diagnosis = replay.judged(seen, replayed)
    else:
        if policy.capture:
            evidence.check(policy.capture)
        missing = [other.name for other in inventory if state.is_host_in_limit(other) and other not in hosts]
        seen = look(hosts, missing, policy)
        diagnosis = cases.judged(seen)
        if policy.capture or not cases.well(diagnosis):
            look_back(hosts, seen, diagnosis["hops"], policy)
            diagnosis = cases.judged(seen)
        if policy.capture:
            packets = seen.evidence["captures"]["files"]

    if before:
        diagnosis["before"] = before
    terminal.summary(diagnosis)
    try:
        telling.write(diagnosis, reports)
    finally:
        # One that fails does not take the other with it.
        if kept:
            bundle.save(kept, seen, pseudonyms=pseudonyms, captures=[Path(name) for name in packets])
    sys.exit(Exit.WELL if cases.well(diagnosis) else Exit.NOT_WELL)
