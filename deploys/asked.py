"""What the checks ask to be done on a node, beside the policy: kube-proxy restarted, settings set, flows forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from checks import (
    conntrack_001,
    conntrack_002,
    iptables_003,
    ipvs_002,
    ipvs_003,
    ipvs_004,
    ipvs_005,
    ipvs_006,
    kube_proxy_001,
    kube_proxy_002,
)
from checks.case import Case
from checks.finding import Status
from deploys.policy import Policy
from models import kernel_settings

#: The checks that can ask for something.
CHECKS = (
    kube_proxy_001,
    kube_proxy_002,
    iptables_003,
    ipvs_002,
    ipvs_003,
    ipvs_004,
    ipvs_005,
    ipvs_006,
    conntrack_001,
    conntrack_002,
)
#: The operations that are a restart of kube-proxy: it writes anew what is not as it wants it.
RESTARTS = ("kube_proxy.restart", "ipvs.resync")


@dataclass(frozen=True)
class Asked:
    """What is to be done, and why.

    + restart: whether kube-proxy is to be restarted
    + settings: kernel settings that are to be set
    + flush: whether tracked DNS flows are to be forgotten
    + because: the sentences of the checks
    """

    restart: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    flush: bool = False
    because: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.restart or self.settings or self.flush)


def of(case: Case, policy: Policy) -> Asked:
    """What the checks ask for on one node, judged by what was read: nothing has been probed yet."""
    read = case.fleet[case.name]
    if read is None:
        return Asked()
    findings = [finding for check in CHECKS for finding in check.check(case)]
    failed = [finding for finding in findings if finding["status"] == Status.FAIL]
    restarts = [finding for finding in failed if finding["operation"] in RESTARTS]
    pinned = [finding for finding in failed if finding["check"] == conntrack_002.ID]
    because = [*restarts, *pinned]
    settings: dict[str, str] = {}
    for finding in findings:
        if finding["check"] == ipvs_006.ID and finding["status"] in (Status.FAIL, Status.WARN):
            wanted = kernel_settings.ipvs(read)
        elif finding["check"] == conntrack_001.ID and finding["status"] == Status.FAIL:
            wanted = kernel_settings.conntrack(read, policy.conntrack_max)
        else:
            continue
        settings |= wanted
        because += [finding] if wanted else []
    return Asked(
        bool(restarts), settings, bool(pinned), tuple(f"{each['check']}: {each['sentence']}" for each in because)
    )
