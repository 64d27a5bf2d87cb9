"""The cluster as a whole: start it, heal it, move the pods behind its DNS service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import network, places
from lab.host import LabError, say
from lab.kubernetes import cluster, control_plane, health, plan
from lab.kubernetes.guests import Guests
from lab.kubernetes.plan import CLUSTER
from lab.plan import NodePlan, Pod, plan_nodes
from lab.state import State

_PATIENCE = 180.0


def start(record: State, nodes: Sequence[NodePlan]) -> None:
    """Start the control plane and the nodes. Raises LabError."""
    programs = Path(record.programs)
    network.join(plan.CONTROL, CLUSTER.api_lan, CLUSTER.api_management)
    control_plane.start(record, programs)
    cluster.create(programs, nodes)
    say("control plane: etcd, kube-apiserver, kube-controller-manager")
    Guests(record, nodes, programs).start()


def heal(record: State, names: Sequence[str]) -> None:
    """Bring the nodes `names` and the DNS service back to the state after `up`. Raises LabError."""
    nodes = plan_nodes(record.nodes)
    programs = Path(record.programs)
    cluster.reset(programs, nodes)
    guests = Guests(record, nodes, programs)
    chosen = [node for node in nodes if node.name in names]
    with ThreadPoolExecutor(len(chosen)) as pool:
        for done in [pool.submit(guests.resume, node) for node in chosen]:
            done.result()
    # The other nodes stay as they are, but for the pods behind the service.
    _place_resolvers(record, plan.first_resolvers(nodes))
    deadline = time.monotonic() + _PATIENCE
    for node in chosen:
        while text := trouble(record, node):
            if time.monotonic() > deadline:
                raise LabError(f"{node.name} is not healthy after heal: {text}")
            time.sleep(0.2)


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
        wanted = each.pod("coredns") in pods
        places.node(record, each).run(
            ["systemctl", "enable" if wanted else "disable", "--quiet", "--now", each.pod("coredns").unit]
        )
