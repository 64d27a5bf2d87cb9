"""CoreDNS in the cluster: restarted as a rollout, and waited for until the DNS services have endpoints."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.operation import operation

from facts import cluster
from facts.cluster import LABEL, DnsService, Pod
from facts.kubectl import Kubectl, KubectlError
from operations import runs
from operations.wave import Wave, refusal

#: Seconds between two looks at the endpoints.
_PAUSE = 2.0
#: Kinds of workload that run CoreDNS: a Deployment as a rule, a DaemonSet on OpenShift and others.
_KINDS = "deployments.apps,daemonsets.apps"


def too_few(services: Sequence[DnsService], minimum: int) -> str:
    """Which DNS service has too few ready endpoints; "" where each address has enough, and there is one."""
    ready = cluster.ready(services)
    if not ready:
        return "the API knows no DNS service with an address"
    return ", ".join(
        f"{address} has {len(ends)} ready endpoints of {minimum}"
        for address, ends in sorted(ready.items())
        if len(ends) < minimum
    )


def not_ready(pods: Sequence[Pod]) -> str:
    """Which of CoreDNS's pods are not ready and why, in words; "" for none. Three of them, at most."""
    waiting = [f"{pod['name']} on {pod['node'] or 'no node'}: {pod['why']}" for pod in pods if not pod["ready"]]
    return "; ".join(waiting[:3]) + (f"; and {len(waiting) - 3} more" if waiting[3:] else "")


@operation()
def rollout_restart(
    kubectl: Kubectl,
    namespace: str = "kube-system",
    workload: str | None = None,
    minimum: int = 1,
    wait: int = 300,
    run: str = runs.RUN,
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Replace CoreDNS's pods one after the other, and wait until the new ones are ready.

    + kubectl: the way to the cluster's API
    + namespace: where CoreDNS is
    + workload: "deployment.apps/coredns"; None for what is labelled k8s-app=kube-dns there
    + minimum: ready endpoints that each DNS service must have afterwards
    + wait: seconds that this may take
    + run: the run's id, for the journal

    For one host of the run: it is the cluster's, not the node's. It restarts whenever it is called: give it `_if`. How
    many pods may be missing meanwhile is the workload's own strategy. One that does not become ready is left to
    Kubernetes, which keeps the old pods as far as the strategy says; `kubectl rollout undo` would bring back nothing,
    for nothing but the pods' age has changed.

    **Example:**

    .. code:: python

        coredns.rollout_restart(name="CoreDNS starts afresh", kubectl=kubectl)
    """
    began = time.monotonic()
    try:
        found = [workload] if workload else _workloads(kubectl, namespace)
        commands = [["rollout", "restart", each, f"--namespace={namespace}"] for each in found]
        if not host.state.is_executing:
            for command in commands:
                _say(kubectl.shown(command))
            yield FunctionCommand(_say, [f"{', '.join(found)}: to be restarted"], {})
            return
        for command in commands:
            kubectl.run(*command)
            runs.record(run, host.name, "restarted", what=command[2], command=kubectl.shown(command))
        for each in found:
            left = max(1, wait - int(time.monotonic() - began))
            status = ["rollout", "status", each, f"--namespace={namespace}", f"--timeout={left}s"]
            kubectl.run(*status, timeout=left + 15)
    except KubectlError as reason:
        problem = f"{reason}{_pods(kubectl, namespace)}"
        if not host.state.is_executing:
            _say(problem)
        yield refusal(problem)
        return
    missing = _wait(kubectl, namespace, minimum, wait - (time.monotonic() - began))
    if missing:
        yield refusal(f"{missing}, {wait} s after the restart{_pods(kubectl, namespace)}")
    else:
        yield FunctionCommand(_say, [f"{', '.join(found)}: restarted, every pod is ready"], {})


@operation()
def wait_for_endpoints(
    wave: Wave, kubectl: Kubectl, namespace: str = "kube-system", minimum: int = 1, wait: int = 120
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Wait until each DNS service has enough ready endpoints, before the next wave begins.

    + wave: fails for this host where there are too few in the end
    + kubectl: the way to the cluster's API
    + namespace: where the DNS services are
    + minimum: ready endpoints of each service's address
    + wait: seconds that this may take

    **Example:**

    .. code:: python

        coredns.wait_for_endpoints(name="DNS has endpoints", wave=wave, kubectl=kubectl, minimum=2)
    """
    if not host.state.is_executing:
        return
    missing = _wait(kubectl, namespace, minimum, wait)
    if missing:
        wave.fail(host.name, f"{missing}, after {wait} s")
        yield FunctionCommand(_say, [wave.failures[host.name]], {})
    else:
        host.noop(f"each DNS service has {minimum} ready endpoints or more")


def _workloads(kubectl: Kubectl, namespace: str) -> list[str]:
    found = kubectl.run("get", _KINDS, f"--namespace={namespace}", f"--selector={LABEL}", "--output=name").split()
    if not found:
        raise KubectlError(f"no Deployment and no DaemonSet in {namespace} is labelled {LABEL}")
    return found


def _wait(kubectl: Kubectl, namespace: str, minimum: int, wait: float) -> str:
    """Why there are too few endpoints when the time is over; "" as soon as there are enough."""
    deadline = time.monotonic() + wait
    while True:
        try:
            missing = too_few(cluster.dns_services(kubectl, namespace), minimum)
        except KubectlError as error:
            missing = str(error)
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(_PAUSE)


def _pods(kubectl: Kubectl, namespace: str) -> str:
    try:
        waiting = not_ready(cluster.dns_pods(kubectl, namespace))
    except KubectlError:
        return ""
    return f" ({waiting})" if waiting else ""


def _say(sentence: str) -> None:
    host.log(sentence)
