"""kube-proxy's sync succeeds.

With IPVS kube-proxy writes its rules every sync period (30 s by default) whether something changed or not; with
iptables and nftables once an hour, and whenever something has changed (kubernetes pkg/proxy: `syncPeriod` and
`time.Hour` as the longest interval of the proxiers' runners). When every sync aborts, its healthz page stays at 200:
only the time of its last success tells, and whether a change has waited for one since.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services

ID = "KUBEPROXY-002"
TITLE = "kube-proxy's sync succeeds"
OPERATION = "kube_proxy.restart"

#: kube-proxy's default (kubernetes pkg/proxy/apis/config/v1alpha1/defaults.go).
_PERIOD_S = 30.0
_HOUR_S = 3600.0


def check(case: Case) -> list[Finding]:
    """One finding."""
    if found := guard.kubernetes(case):
        return [case.finding(ID, TITLE, *found)]
    proxy = case.snapshot["kube_proxy"]["value"]
    assert proxy is not None, "guarded"
    if not proxy["pid"] or kube_services.gone(case.snapshot):
        return [case.finding(ID, TITLE, Status.SKIP, "kube-proxy does not run here: see KUBEPROXY-001")]
    sync = proxy["sync"]
    if sync is None:
        sentence = "kube-proxy does not answer on its metrics address, and nothing else tells when it last synced"
        return [case.finding(ID, TITLE, Status.UNKNOWN, sentence, [f"healthz: {proxy['health']}"])]
    limit = 2 * (proxy["config"]["sync_period"] or _PERIOD_S)
    evidence = [
        f"kubeproxy_sync_proxy_rules_last_timestamp_seconds {sync['last']:.0f}",
        f"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds {sync['last_queued']:.0f}",
        f"the node's clock {sync['clock']:.0f}",
        f"healthz: {proxy['health'] or 'no answer'}",
    ]
    age = sync["clock"] - sync["last"]
    health = f", although healthz says {proxy['health']}" if proxy["health"] == 200 else ""
    if not sync["last"]:
        sentence = f"no sync has ever succeeded since kube-proxy started{health}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    succeeded = f"the last sync that succeeded was {max(age, 0):.0f} s ago"
    always = kube_services.mode(case.snapshot) == "ipvs"
    waits = sync["clock"] - sync["last_queued"] if sync["last_queued"] > sync["last"] else 0.0
    most = limit if always else _HOUR_S + limit
    if age > most:
        sentence = f"{succeeded}, with a limit of {most:.0f} s{health}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if not always and waits > limit:
        sentence = f"a change has waited for a sync for {waits:.0f} s, with a limit of {limit:.0f} s{health}"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if waits > 0 and age > limit:
        # The one that has come last; others may have waited for longer.
        sentence = f"a change waits for a sync, the last one for {waits:.0f} s, and {succeeded}"
        return [case.finding(ID, TITLE, Status.WARN, sentence, evidence, OPERATION)]
    return [case.finding(ID, TITLE, Status.PASS, f"the last sync was {max(age, 0):.0f} s ago", evidence)]
