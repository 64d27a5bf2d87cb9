"""The cluster as a whole: start it, heal it, move the pods behind its DNS service."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import host, network, places
from lab.host import LabError, say
from lab.kubernetes import cluster, control_plane, health, plan
from lab.kubernetes.guests import Guests, in_parallel
from lab.kubernetes.plan import CLUSTER
from lab.plan import NodePlan, Pod, plan_nodes
from lab.state import State

_PATIENCE = 180.0

# Linked by hand: `systemctl enable` makes systemd read all of its units again. Where no pod is, packets to its address
# are dropped, and not answered with an error by what is left of it.
_WANTS = "/etc/systemd/system/multi-user.target.wants"
_START_POD = f'ip link set "$2" up && ln -sf "/etc/systemd/system/$1" {_WANTS}/ && systemctl start "$1"'
_END_POD = f'systemctl stop "$1" && rm -f "{_WANTS}/$1" && ip link set "$2" down'

# Folder of a saved state.
_CONTROL_PLANE = "control-plane"


def start(record: State, nodes: Sequence[NodePlan]) -> None:
    """Start the control plane and the nodes. Raises LabError."""
    programs = Path(record.programs)
    network.join(plan.CONTROL, CLUSTER.api_lan, CLUSTER.api_management)
    guests = Guests(record, nodes, programs)
    record.emulated = guests.emulated
    record.save()
    saved = guests.saved_directory()
    if not saved.is_dir():
        _make_saved(record, nodes, guests, saved)
    host.run(["cp", "--archive", "--sparse=always", str(saved / _CONTROL_PLANE), str(control_plane.directory())])
    with ThreadPoolExecutor(1) as pool:
        resumed = pool.submit(guests.resume, saved, nodes)
        control_plane.start(record, programs)
        say("control plane: etcd, kube-apiserver, kube-controller-manager")
        resumed.result()
    say(f"{len(nodes)} virtual machines resumed")
    in_parallel(guests.personalise, nodes)


def _make_saved(record: State, nodes: Sequence[NodePlan], guests: Guests, saved: Path) -> None:
    """Start a new cluster, wait until it works, and save all of it. Raises LabError."""
    programs = Path(record.programs)
    say(f"no saved state: booting {len(nodes)} virtual machines{', emulated' if guests.emulated else ''}, once")
    with host.locked(saved.parent):
        partial = saved.with_name(saved.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        # It holds the keys of the cluster, which is not reached from outside of this machine.
        partial.mkdir(mode=0o700)
        try:
            control_plane.prepare()
            with ThreadPoolExecutor(1) as pool:
                booted = pool.submit(guests.boot, partial)
                control_plane.start(record, programs)
                cluster.create(programs, nodes)
                booted.result()
            proxy = control_plane.proxy_kubeconfig().read_text()
            for node in nodes:
                places.node(record, node).write("/etc/kubernetes/kube-proxy.kubeconfig", proxy, 0o600)
                places.node(record, node).run(["systemctl", "enable", "--quiet", "--now", "kube-proxy.service"])
            _place_resolvers(record, plan.first_resolvers(nodes))
            _wait_until_well(record, nodes)
            guests.save(partial)
            control_plane.stop(record)
            control_plane.directory().rename(partial / _CONTROL_PLANE)
            partial.rename(saved)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def heal(record: State, names: Sequence[str]) -> None:
    """Bring the nodes `names` and the DNS service back to the state after `up`. Raises LabError."""
    nodes = plan_nodes(record.nodes)
    programs = Path(record.programs)
    cluster.reset(programs, nodes)
    guests = Guests(record, nodes, programs)
    chosen = [node for node in nodes if node.name in names]
    guests.resume(guests.saved_directory(), chosen)
    in_parallel(guests.personalise, chosen)
    # The other nodes stay as they are, but for the pods behind the service.
    _place_resolvers(record, plan.first_resolvers(nodes))
    _wait_until_well(record, chosen)


def _wait_until_well(record: State, chosen: Sequence[NodePlan]) -> None:
    deadline = time.monotonic() + _PATIENCE
    for node in chosen:
        while text := trouble(record, node):
            if time.monotonic() > deadline:
                raise LabError(f"{node.name} does not become healthy: {text}")
            time.sleep(0.2)


def access(record: State) -> dict[str, str]:
    """How the cluster's administrator reaches it from this machine: `kubectl`, `kubeconfig` (both paths)."""
    return {"kubectl": str(Path(record.programs) / "kubectl"), "kubeconfig": str(control_plane.kubeconfig())}


def trouble(record: State, node: NodePlan) -> str:
    """One sentence about what does not work on `node`; empty if all does."""
    return health.trouble(places.node(record, node), cluster.resolvers(Path(record.programs)))


def move_resolver(record: State, source: str, target: str) -> Pod:
    """End the pod in CoreDNS's role on node `source`, start one on `target`, and tell the API server.

    Returns the new pod. Raises LabError if there is none on `source`, or one on `target` already.
    """
    programs = Path(record.programs)
    now = set(cluster.resolvers(programs))
    pods = {node.name: node.pod("coredns") for node in plan_nodes(record.nodes)}
    if pods[source].address not in now or pods[target].address in now:
        raise LabError(f"no pod to move from {source} to {target}: the DNS service has {', '.join(sorted(now))}")
    kept = [pod for name, pod in pods.items() if pod.address in now and name != source]
    _place_resolvers(record, (*kept, pods[target]))
    cluster.set_resolvers(programs, (*kept, pods[target]))
    return pods[target]


def _place_resolvers(record: State, pods: Sequence[Pod]) -> None:
    for each in plan_nodes(record.nodes):
        pod = each.pod("coredns")
        wanted = pod in pods
        place = places.node(record, each)
        place.run(["sh", "-c", _START_POD if wanted else _END_POD, "sh", pod.unit, pod.interface])
