"""What the API server is told: the nodes, the DNS service, and the pods behind it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import files, host
from lab.kubernetes import control_plane, plan
from lab.kubernetes.plan import CLUSTER
from lab.plan import NodePlan, Pod


def kubectl(
    programs: Path, arguments: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run kubectl as the cluster's administrator. Raises LabError if it fails and `check` is set."""
    argv = [str(programs / "kubectl"), f"--kubeconfig={control_plane.kubeconfig()}", *arguments]
    return host.run(argv, stdin=stdin, check=check, timeout=timeout)


def create(programs: Path, nodes: Sequence[NodePlan]) -> None:
    """Create the nodes and the DNS service, with its first pods."""
    text = files.render("kubernetes/cluster/objects.yaml.j2", {"nodes": nodes, "cluster": CLUSTER})
    kubectl(programs, ["create", "--save-config", "--filename=-"], stdin=text)
    set_resolvers(programs, plan.first_resolvers(nodes))


def reset(programs: Path, nodes: Sequence[NodePlan]) -> None:
    """Bring back what `create` has made, and make every node schedulable."""
    text = files.render("kubernetes/cluster/objects.yaml.j2", {"nodes": nodes, "cluster": CLUSTER})
    kubectl(programs, ["apply", "--filename=-"], stdin=text)
    kubectl(programs, ["uncordon", *(node.name for node in nodes)])
    set_resolvers(programs, plan.first_resolvers(nodes))


def set_resolvers(programs: Path, pods: Sequence[Pod]) -> None:
    """Make `pods` the ones behind the DNS service, in Endpoints and in its EndpointSlice."""
    text = files.render("kubernetes/cluster/endpoints.yaml.j2", {"pods": pods})
    kubectl(programs, ["apply", "--filename=-"], stdin=text)


def resolvers(programs: Path) -> tuple[str, ...]:
    """Addresses of the pods behind the DNS service, as the Endpoints have them."""
    done = kubectl(programs, ["--namespace=kube-system", "get", "endpoints", "kube-dns", "--output=json"])
    subsets = json.loads(done.stdout).get("subsets", [])
    return tuple(address["ip"] for subset in subsets for address in subset.get("addresses", []))
