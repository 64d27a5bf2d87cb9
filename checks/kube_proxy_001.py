"""kube-proxy runs.

What it wrote stays in force without it, so that nothing looks wrong until the first pod moves.
"""

from __future__ import annotations

from checks import guard
from checks.case import Case
from checks.finding import Finding, Status
from models import kube_services

ID = "KUBEPROXY-001"
TITLE = "kube-proxy runs"
OPERATION = "kube_proxy.restart"


def check(case: Case) -> list[Finding]:
    """One finding."""
    if found := guard.kubernetes(case):
        return [case.finding(ID, TITLE, *found)]
    proxy = case.snapshot["kube_proxy"]["value"]
    assert proxy is not None, "guarded"
    evidence = [" ".join(proxy["argv"])] if proxy["argv"] else []
    if kube_services.gone(case.snapshot):
        return [case.finding(ID, TITLE, Status.SKIP, "no kube-proxy on this node: Cilium runs", evidence)]
    if proxy["pid"]:
        what = " ".join(filter(None, (proxy["unit"] or proxy["form"], proxy["version"], proxy["mode"])))
        return [case.finding(ID, TITLE, Status.PASS, f"{what}, pid {proxy['pid']}", evidence)]
    if proxy["form"] != "none":
        sentence = f"kube-proxy does not run ({proxy['unit'] or proxy['form']}): its rules stay as they were"
        return [case.finding(ID, TITLE, Status.FAIL, sentence, evidence, OPERATION)]
    if proxy["cilium"]:
        return [case.finding(ID, TITLE, Status.SKIP, "no kube-proxy on this node: Cilium runs")]
    having = [name for name, read in sorted(case.fleet.items()) if read and "kube_proxy" in read and _runs(case, name)]
    if having:
        sentence = (
            f"no kube-proxy on this node, though {' and '.join(having)} {'has' if len(having) == 1 else 'have'} one"
        )
        return [case.finding(ID, TITLE, Status.FAIL, sentence, [f"kubelet, pid {proxy['kubelet']}"])]
    return [case.finding(ID, TITLE, Status.SKIP, "no kube-proxy on any node")]


def _runs(case: Case, name: str) -> bool:
    read = case.fleet[name]
    proxy = read["kube_proxy"]["value"] if read else None
    return read is not None and proxy is not None and proxy["pid"] > 0 and not kube_services.gone(read)
