"""The checks that a new node has to pass before it joins: its own ones, then those of every node."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

from checks import (
    dnsmasq_001,
    onboard_001,
    onboard_002,
    onboard_003,
    onboard_004,
    onboard_005,
    onboard_006,
    onboard_007,
)
from checks.catalogue import CHECKS
from checks.diagnosis import Verdict
from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from models.joined import OWN

#: As in `checks.catalogue`.
MODULES = (onboard_001, onboard_002, onboard_003, onboard_004, onboard_005, onboard_006, onboard_007)

#: What `--data enforce=true` does by itself.
_ENFORCED = ("alternatives.backend", "dnsmasq.interface_policy", "netfilter.remove_stale", "sysctl.settings")


def judge(new: Newcomer) -> list[Finding]:
    """Every finding on a new node."""
    found = [finding for module in MODULES for finding in module.check(new)]
    for name, check in CHECKS.items():
        # Without a pod to ask from it is unknown: ONBOARD-004 stands in for it.
        if name != dnsmasq_001.ID or new.joined[1] == OWN:
            found += check(new.case)
    return found


def may_join(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed and nothing is unknown, of at least one finding."""
    statuses = [finding["status"] for finding in findings]
    return bool(statuses) and not any(status in (Status.FAIL, Status.UNKNOWN) for status in statuses)


def refusal(node: str, unread: str, findings: Iterable[Finding]) -> Verdict | None:
    """Why a node must not join, as a verdict; None where it may.

    + unread: why the node could not be read, "" where it was
    + findings: of this node and of others
    """
    own = [finding for finding in findings if finding["node"] == node]
    if not unread and may_join(own):
        return None
    failed = [finding for finding in own if finding["status"] == Status.FAIL]
    bad = [*failed, *(finding for finding in own if finding["status"] == Status.UNKNOWN)]
    first = bad[0] if bad else None
    why = first["sentence"] if first else unread or "nothing was judged"
    ours = bad and all(finding["operation"] in _ENFORCED for finding in bad)
    return {
        "check": first["check"] if first else "",
        "title": first["title"] if first else "",
        "hop": "",
        "sentence": f"{node} must not join: {why}" + (f", and {len(bad) - 1} more" if bad[1:] else ""),
        "culprits": [node],
        "affected": [node],
        "consequence": "the node must not join the cluster",
        "evidence": [f"{finding['check']} {finding['status']}: {finding['sentence']}" for finding in bad],
        "explained": [],
        "ruled_out": [],
        "certainty": "certain" if failed else "likely",
        "operation": first["operation"] if first else "",
        "fix": f"pyinfra inventory deploys/onboard.py -y --data {_new(node)} --data enforce=true" if ours else "",
    }


def _new(node: str) -> str:
    """The node as the new one, for a shell: without it, and without --limit, nothing says which node is."""
    return shlex.quote(f"new_nodes={json.dumps([node])}")
