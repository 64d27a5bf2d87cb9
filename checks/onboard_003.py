"""A new node's kernel settings are the policy's and the cluster's.

Without ip_forward no pod's packet leaves the node; a strict rp_filter drops what pods send by another way than they
are reached; a small connection tracking table drops new DNS queries first.
"""

from __future__ import annotations

from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from models.kernel_settings import CONNTRACK_MAXIMUM, same

ID = "ONBOARD-003"
TITLE = "A new node's kernel settings are the policy's and the cluster's"
OPERATION = "sysctl.settings"


def check(new: Newcomer) -> list[Finding]:
    """One finding; warn where nothing is tracked yet, so that the table has no size."""
    case, wanted = new.case, new.reference
    if reason := case.unread(("kernel", "conntrack")):
        return [case.finding(ID, TITLE, Status.UNKNOWN, reason)]
    evidence = [
        f"{name} = {new.settings.get(name, 'not there')}, wanted {value}: {wanted.settings_because[name]}"
        for name, value in wanted.settings.items()
    ]
    table = case.snapshot["conntrack"]["value"]
    size = wanted.conntrack_max
    if size is not None:
        evidence.append(f"{CONNTRACK_MAXIMUM} = {table['maximum'] if table else 'not there'}, wanted {size} or more")
    for name, value in wanted.settings.items():
        whose = wanted.settings_because[name]
        if name not in new.settings:
            sentence = f"this kernel has no {name} (a module is not loaded?), which should be {value}: {whose}"
            return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence)]
        if not same(new.settings[name], value):
            sentence = f"{name} is {new.settings[name]}, and should be {value}: {whose}"
            return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if size is not None and table is not None and table["maximum"] < size:
        sentence = f"room for {table['maximum']} tracked connections, and should be for {size} (conntrack_max)"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if size is not None and table is None:
        sentence = f"nothing is tracked yet: whether there is room for {size} connections shows once kube-proxy runs"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence)]
    return [case.finding(ID, TITLE, Status.PASS, "every setting is as it should be", evidence)]
