"""kube-proxy: restarted as the node runs it, and waited for until its rules are there."""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts.ipvs import Ipvs, IpvsTable
from facts.kube_proxy import KubeProxy
from facts.kube_proxy_answer import Proxy
from facts.netfilter import Backend, KubeRules, Ruleset
from models.refused import Refused
from models.stale_rules import has_services
from operations import runs
from operations.wave import refusal

#: Seconds between two looks at a kube-proxy that has been restarted.
_PAUSE = 1.0

#: crictl as the kubelet's runtime knows it; RKE2 keeps its own.
_CRICTL = (
    'PATH="$PATH:/usr/local/bin:/var/lib/rancher/rke2/bin"; rke2=/var/lib/rancher/rke2/agent/etc/crictl.yaml; '
    '[ ! -r "$rke2" ] || export CRI_CONFIG_FILE="${CRI_CONFIG_FILE:-$rke2}"; '
)


def restart_command(proxy: Proxy) -> str:
    """The shell command that restarts kube-proxy in the form in which this node runs it.

    A pod's sandbox is removed, and the kubelet makes a new one: its container starts afresh, and so does the wrapper
    that looks for the iptables backend, which `crictl stop` alone would not bring about. Raises Refused for a form that
    nobody would start again.
    """
    if proxy["form"] in ("systemd", "k3s", "k3s-agent", "microk8s"):
        if not proxy["unit"]:
            raise Refused(f"kube-proxy runs as {proxy['form']}, but in no unit that could be restarted")
        return f"systemctl restart {shlex.quote(proxy['unit'])}"
    if proxy["form"] in ("DaemonSet", "static pod"):
        pod = proxy["pod"]
        if pod is None:
            raise Refused(
                f"kube-proxy is a pod ({proxy['form']}) that crictl does not show here: delete it with kubectl, "
                "then run this again"
            )
        sandbox = shlex.quote(pod["sandbox"])
        return f"{_CRICTL}crictl stopp {sandbox} && crictl rmp {sandbox}"
    if proxy["form"] == "process":
        raise Refused(f"kube-proxy is process {proxy['pid']}, which no unit and no kubelet would start again")
    raise Refused("there is no kube-proxy here")


def dns_services(table: IpvsTable | None) -> list[tuple[str, str]]:
    """Protocol and address of the services on port 53 that have a real server: what has to be there after a restart."""
    return [
        (service["protocol"], service["address"])
        for service in (table["services"] if table else [])
        if service["port"] == 53 and service["servers"]
    ]


def unsynced(before: Proxy, proxy: Proxy | None) -> str:
    """What tells that kube-proxy has not synced since it was restarted; "" where it has.

    + before: kube-proxy before the restart

    A process that is not the one before counts its own syncs: the first one sets the time in its metrics. One whose
    metrics were out of reach before is judged by its rules alone.
    """
    if proxy is None or not proxy["pid"]:
        return "kube-proxy does not run"
    if proxy["pid"] == before["pid"]:
        return "the old kube-proxy still runs"
    if not proxy["answers"]:
        silent = before["pid"] and not before["answers"]
        return "" if silent else "kube-proxy does not answer on its metrics address"
    if proxy["sync"] is None and before["sync"] is not None:
        return "kube-proxy's metrics do not tell whether it has synced"
    if proxy["sync"] and not proxy["sync"]["last"]:
        return "kube-proxy has not synced yet"
    return ""


def unwritten(
    mode: str,
    rulesets: Sequence[Ruleset],
    table: IpvsTable | None,
    backend: Backend,
    services: Sequence[tuple[str, str]],
) -> str:
    """What kube-proxy should have written and is not there; "" for nothing.

    + mode: kube-proxy's: "ipvs", "iptables" or "nftables"
    + services: protocol and address of the IPVS services on port 53 that must have a real server
    """
    if mode != "nftables" and not has_services(rulesets, backend):
        return f"{backend} does not hold kube-proxy's rules (KUBE-SERVICES)"
    if mode == "ipvs":
        there = dns_services(table)
        for protocol, address in services:
            if (protocol, address) not in there:
                return f"IPVS has no real server for {address}:53 {protocol}"
    return ""


@operation()
def restart(
    backend: Backend,
    vips: Sequence[str] = (),
    wait: int = 90,
    run: str = runs.RUN,
) -> Generator[StringCommand, None, None]:
    """
    Restart kube-proxy, and wait until it has written its rules to the backend and the DNS services have real servers.

    + backend: where its rules must be afterwards: "nft" or "legacy"
    + vips: DNS service addresses that must have a real server in IPVS mode, besides those that had one before
    + wait: seconds that this may take
    + run: the run's id, for the journal

    It restarts whenever it is called: give it `_if`. What IPVS knows stays while it restarts, and no query is lost
    (measured at 10 queries a second). systemd units, k3s and microk8s are restarted by systemctl, pods by crictl; a
    node without kube-proxy is left alone, another form is refused.

    **Example:**

    .. code:: python

        kube_proxy.restart(name="kube-proxy writes to legacy", backend="legacy", _if=chosen.did_change)
    """
    yield from restarted(backend, vips, wait, run)


def restarted(
    backend: Backend, vips: Sequence[str], wait: int, run: str, before_it: str = "", if_it_fails: str = ""
) -> Generator[StringCommand, None, None]:
    """The commands of a restart, for operations that need one.

    + before_it: a shell command to run in the same breath; where it fails, nothing is restarted
    + if_it_fails: a shell command to run when the restart fails, or brings nothing about
    """
    reading = host.get_fact(KubeProxy)
    proxy = reading["value"]
    if reading["state"] == "empty" or (proxy and proxy["form"] == "none"):
        host.noop("no kube-proxy here")
        return
    try:
        if proxy is None:
            raise Refused(f"its kube-proxy is not known: {reading['state']}: {reading['detail']}")
        command = restart_command(proxy)
    except Refused as reason:
        yield refusal(f"refused: {reason}")
        return
    services = dns_services(host.get_fact(Ipvs)["value"])
    services += [(protocol, vip) for vip in vips for protocol in ("udp", "tcp") if (protocol, vip) not in services]
    if not host.state.is_executing:
        host.log(" && ".join(filter(None, [before_it, command])))
    yield StringCommand(locked(command, before_it, if_it_fails, run, again_command(proxy)))
    if not host.state.is_executing:
        return
    runs.record(run, host.name, "restarted", what="kube-proxy", command=command)
    missing = _wait(proxy, backend, services, wait)
    if missing:
        if if_it_fails:
            yield StringCommand(if_it_fails)
        yield refusal(f"{missing}, {wait} s after the restart")


def again_command(proxy: Proxy) -> str:
    """The shell command that restarts kube-proxy later, when it is another process, or the pod has another sandbox."""
    pod = proxy["pod"]
    if proxy["form"] not in ("DaemonSet", "static pod") or pod is None:
        return restart_command(proxy)
    # The pod of today may be another one by then as well: kubeadm and most others label it.
    found = f'"$(crictl pods -q --state Ready --namespace {shlex.quote(pod["namespace"])} --label k8s-app=kube-proxy)"'
    name = shlex.quote(f"^{pod['name']}$")
    named = f'"$(crictl pods -q --state Ready --name {name})"'
    return (
        f'{_CRICTL}pods={named}; [ -n "$pods" ] || pods={found}; [ -n "$pods" ] || {{ echo "crictl shows no pod of '
        'kube-proxy" >&2; exit 1; }; for pod in $pods; do crictl stopp "$pod" && crictl rmp "$pod"; done'
    )


def locked(command: str, before_it: str, if_it_fails: str, run: str, again: str) -> str:
    """The shell command of a restart while nobody else changes the node; `again` is left for who takes the run back."""
    first = f"{before_it} || exit 1\n" if before_it else ""
    folder = shlex.quote(f"{runs.NODE_DIRECTORY}/{run}")
    # Who takes the run back restarts it as well.
    first += f"[ ! -d {folder} ] || (umask 077; printf '%s\\n' {shlex.quote(again)} > {folder}/kube-proxy) || exit 1\n"
    last = f"{if_it_fails}; exit 1" if if_it_fails else "exit 1"
    return (
        "exec 9>/run/dnsmend.lock\n"
        'flock -w 60 9 || { echo "dnsmend: another change is under way on this node" >&2; exit 1; }\n'
        f"{first}{{ {command}; }} 9>&- || {{ {last}; }}"
    )


def _wait(before: Proxy, backend: Backend, services: Sequence[tuple[str, str]], wait: int) -> str:
    deadline = time.monotonic() + wait
    while True:
        proxy = host.get_fact(KubeProxy)["value"]
        missing = unsynced(before, proxy)
        # The rules are looked at last: on a large node that takes a second.
        if not missing and proxy:
            rulesets, table = host.get_fact(KubeRules)["value"], host.get_fact(Ipvs)["value"]
            missing = unwritten(proxy["mode"], rulesets, table, backend, services)
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(_PAUSE)
