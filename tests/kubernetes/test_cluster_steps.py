"""The cluster steps against a real API server: cordon, drain, uncordon, rollout, and every reason to say no."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from facts import cluster
from lab.api import Lab
from lab.kubernetes import control_plane
from lab.kubernetes.plan import CLUSTER
from tests.conftest import Run

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]

#: The DNS service of these tests, which nobody asks: the lab's own one stays as it is.
NAMESPACE = "dnsmend-steps"
DEPLOY = "tests/operations/cluster_deploy.py"

Steps = Callable[..., subprocess.CompletedProcess[str]]


def apply(lab: Lab, *objects: dict[str, Any]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    lab.kubectl(["apply", "--filename=-"], stdin=json.dumps(items))


def coredns_on(lab: Lab, **nodes: bool) -> None:
    """A DNS service with an endpoint on each of these nodes (node_0=True), ready or not."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    apply(
        lab,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": NAMESPACE},
            "spec": {"ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1beta1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-test",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [
                {
                    "addresses": [f"198.18.200.{number}"],
                    "conditions": {"ready": ready},
                    "topology": {"kubernetes.io/hostname": name.replace("_", "-")},
                }
                for number, (name, ready) in enumerate(nodes.items(), 1)
            ],
        },
    )


@pytest.fixture
def namespace(kube_lab: Lab) -> Iterator[str]:
    """A namespace with a DNS service on node-0 and node-1; afterwards every node takes pods, and it is gone."""
    apply(kube_lab, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    coredns_on(kube_lab, node_0=True, node_1=True)
    yield NAMESPACE
    names = [node.name for node in kube_lab.nodes]
    kube_lab.kubectl(["uncordon", *names])
    kube_lab.kubectl(["annotate", "node", *names, f"{cluster.CORDONED}-"])
    kube_lab.kubectl(["delete", "pods", "--all", f"--namespace={NAMESPACE}", "--force", "--grace-period=0"])
    kube_lab.kubectl(["delete", "namespace", NAMESPACE])


@pytest.fixture
def steps(pyinfra: Run, namespace: str) -> Steps:
    """`steps("node-0", cluster_drain=True, how="--dry")` on these nodes, comma-separated."""

    def run(nodes: str, how: str = "-y", **data: object) -> subprocess.CompletedProcess[str]:
        data = {"dns_namespace": namespace, "coredns_wait": 10, "drain_timeout": 10} | data
        told = [word for key, value in data.items() for word in ("--data", f"{key}={value}")]
        limits = [word for node in nodes.split(",") for word in ("--limit", node)]
        return pyinfra(how, *limits, "inventories/lab.py", DEPLOY, *told, timeout=300)

    return run


def state(lab: Lab) -> dict[str, tuple[bool, str]]:
    """Per node whether it takes pods, and which run has cordoned it."""
    found = cluster.read_nodes(json.loads(lab.kubectl(["get", "nodes", "--output=json"]).stdout))
    return {node["name"]: (node["schedulable"], node["cordoned_by"]) for node in found}


WELL = {f"node-{number}": (True, "") for number in range(3)}


def kubeconfig(lab: Lab, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The administrator's kubeconfig with one thing changed."""
    config = yaml.safe_load(control_plane.kubeconfig().read_text())
    change(config)
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def no_server(config: dict[str, Any]) -> None:
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"


def wrapper(lab: Lab, folder: Path, script: str) -> Path:
    """A kubectl that does something else first; "$real" is the real one, "$log" a file for it."""
    file = folder / "kubectl"
    file.write_text(f'#!/bin/sh\nreal={lab.record.programs}/kubectl log={folder}/log\n{script}\nexec "$real" "$@"\n')
    file.chmod(0o755)
    return file


def order(text: str, *parts: str) -> bool:
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


def test_a_node_takes_no_pods_while_it_is_changed(kube_lab: Lab, steps: Steps, tmp_path: Path) -> None:
    kubectl = wrapper(kube_lab, tmp_path, 'echo "$@" >>"$log"')
    done = steps("node-0,node-2", cluster_cordon=True, dns_endpoints=2, kubectl=kubectl)
    assert done.returncode == 0, done.stderr
    assert state(kube_lab) == WELL
    assert order(done.stderr, "node-0: takes no new pods", "Wave 1 of 2: change", "node-0: takes pods again")
    calls = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert all(any(word.startswith("--request-timeout=") for word in call) for call in calls)
    patches = [(call[4], '"unschedulable":true' in call[-1]) for call in calls if "patch" in call]
    assert patches == [("node-0", True), ("node-0", False), ("node-2", True), ("node-2", False)]


def test_a_dry_run_says_each_command_and_does_none(kube_lab: Lab, steps: Steps, tmp_path: Path) -> None:
    kubectl = wrapper(kube_lab, tmp_path, 'echo "$@" >>"$log"')
    deployment(kube_lab)
    done = steps("node-2", how="--dry", cluster_drain=True, coredns_rollout=True, kubectl=kubectl)
    assert done.returncode == 0, done.stderr
    for command in (
        "kubectl patch node node-2 --type=merge",
        "kubectl drain node-2 --ignore-daemonsets --delete-emptydir-data --timeout=10s",
        '"unschedulable":null',
        "kubectl rollout restart deployment.apps/coredns --namespace=dnsmend-steps",
    ):
        assert command in done.stderr
    assert {line.split()[2] for line in (tmp_path / "log").read_text().splitlines()} == {"get"}
    assert state(kube_lab) == WELL


def test_the_last_healthy_coredns_is_refused(kube_lab: Lab, steps: Steps) -> None:
    coredns_on(kube_lab, node_0=True, node_1=False)
    done = steps("node-0,node-2", cluster_cordon=True, change="echo changed >&2; false")
    assert done.returncode == 1
    assert "refused: node-0 has the last healthy CoreDNS of a node that takes pods" in done.stderr
    assert "changed" not in done.stderr.replace("Changed", "")
    assert state(kube_lab) == WELL


def test_somebody_elses_cordon_stays(kube_lab: Lab, steps: Steps) -> None:
    kube_lab.kubectl(["cordon", "node-2"])
    done = steps("node-2", cluster_cordon=True)
    assert done.returncode == 0, done.stderr
    assert "node-2 was cordoned before, and stays so" in done.stderr
    assert state(kube_lab)["node-2"] == (False, "")


def test_what_another_run_has_cordoned_stays(kube_lab: Lab, steps: Steps) -> None:
    kube_lab.kubectl(["cordon", "node-2"])
    kube_lab.kubectl(["annotate", "node", "node-2", f"{cluster.CORDONED}=20261122T000000Z-0000"])
    assert steps("node-2", cluster_cordon=True).returncode == 0
    assert state(kube_lab)["node-2"] == (False, "20261122T000000Z-0000")


def test_a_node_that_is_not_proven_takes_pods_again_and_stops_the_run(kube_lab: Lab, steps: Steps) -> None:
    done = steps("node-0,node-2", cluster_cordon=True, proven=False)
    assert done.returncode == 1
    assert order(done.stderr, "node-0: takes no new pods", "node-0: takes pods again", "not proven: as told")
    assert "node-2: takes no new pods" not in done.stderr
    assert state(kube_lab) == WELL


def test_a_run_that_breaks_off_leaves_no_cordon(kube_lab: Lab, steps: Steps) -> None:
    done = steps("node-2", cluster_cordon=True, change="false")
    assert done.returncode == 1
    assert "node-2: node-2 takes pods again: the run broke off" in done.stderr
    assert state(kube_lab) == WELL


def test_an_api_server_that_is_down(kube_lab: Lab, steps: Steps, tmp_path: Path) -> None:
    broken = kubeconfig(kube_lab, tmp_path, no_server)
    done = steps("node-2", cluster_cordon=True, kubeconfig=broken, change="echo changed >&2; false")
    assert done.returncode == 1
    assert "not cordoned: the API server is not reached from the controller: The connection" in done.stderr
    assert "changed" not in done.stderr.replace("Changed", "")


def test_an_api_server_that_goes_down_leaves_a_command_to_type(kube_lab: Lab, steps: Steps, tmp_path: Path) -> None:
    broken = kubeconfig(kube_lab, tmp_path, no_server)
    down = f'[ ! -e "$log" ] || exec "$real" --kubeconfig={broken} get nodes; case "$*" in *patch*) >"$log" ;; esac'
    done = steps("node-2", cluster_cordon=True, kubectl=wrapper(kube_lab, tmp_path, down))
    assert done.returncode == 1
    assert "still cordoned: the API server is not reached" in done.stderr
    assert "Type: kubectl uncordon node-2" in done.stderr
    assert state(kube_lab)["node-2"][0] is False


def test_a_user_without_rights(kube_lab: Lab, steps: Steps, tmp_path: Path) -> None:
    broken = kubeconfig(kube_lab, tmp_path, lambda config: config["users"][0]["user"].update({"as": "nobody"}))
    done = steps("node-2", cluster_cordon=True, kubeconfig=broken)
    assert done.returncode == 1
    assert 'the API server does not allow it: Error from server (Forbidden): nodes is forbidden: User "nobody"' in (
        done.stderr
    )


def test_a_disruption_budget_holds_a_drain_and_the_node_takes_pods_again(kube_lab: Lab, steps: Steps) -> None:
    labels = {"app": "guarded"}
    apply(
        kube_lab,
        {
            "apiVersion": "policy/v1beta1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "guarded", "namespace": NAMESPACE},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
        workload("guarded", labels) | {"kind": "ReplicaSet"},
    )
    bind(kube_lab, "app=guarded", "node-2")
    done = steps("node-2", cluster_drain=True)
    assert done.returncode == 1
    assert "not drained: kubectl on the controller:" in done.stderr
    assert "node-2: takes pods again" in done.stderr
    assert state(kube_lab) == WELL


def test_a_drain(kube_lab: Lab, steps: Steps) -> None:
    done = steps("node-2", cluster_drain=True)
    assert done.returncode == 0, done.stderr
    assert "node-2: takes no new pods, drained" in done.stderr
    assert state(kube_lab) == WELL


def test_coredns_that_does_not_become_ready(kube_lab: Lab, steps: Steps) -> None:
    deployment(kube_lab)
    done = steps("node-2", coredns_rollout=True)
    assert done.returncode == 1
    assert "timed out waiting for the condition" in done.stderr
    assert "on no node: Pending" in done.stderr


def test_coredns_is_restarted_and_waited_for(kube_lab: Lab, steps: Steps) -> None:
    deployment(kube_lab)
    with kubelet(kube_lab):
        done = steps("node-2", coredns_rollout=True, dns_endpoints=2, coredns_wait=60)
    assert done.returncode == 0, done.stderr
    assert "deployment.apps/coredns: restarted, every pod is ready" in done.stderr


def test_too_few_endpoints_stop_the_run(kube_lab: Lab, steps: Steps) -> None:
    done = steps("node-1,node-2", cluster_cordon=True, dns_endpoints=3)
    assert done.returncode == 1
    assert "has 2 ready endpoints of 3, after 10 s" in done.stderr
    assert "node-2: takes no new pods" not in done.stderr


def test_nothing_to_restart_is_said(steps: Steps) -> None:
    done = steps("node-2", coredns_rollout=True)
    assert done.returncode == 1
    assert "no Deployment and no DaemonSet in dnsmend-steps is labelled k8s-app=kube-dns" in done.stderr


def workload(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": name, "image": "none.invalid/none"}]},
            },
        },
    }


def deployment(lab: Lab) -> None:
    apply(lab, workload("coredns", {"k8s-app": "kube-dns"}))


def pods(lab: Lab, selector: str) -> list[dict[str, Any]]:
    found = lab.kubectl(["get", "pods", f"--namespace={NAMESPACE}", f"--selector={selector}", "--output=json"])
    return list(json.loads(found.stdout)["items"])


def bind(lab: Lab, selector: str, node: str) -> None:
    """What the scheduler does."""
    while not (found := pods(lab, selector)):
        pass
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    for pod in found:
        name = pod["metadata"]["name"]
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/binding"
        lab.kubectl(["create", f"--raw={path}", "--filename=-"], stdin=json.dumps(binding))


@contextmanager
def kubelet(lab: Lab) -> Iterator[None]:
    """What the kubelet does with CoreDNS's pods: says that they are ready, as soon as they are there."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.2):
            for pod in pods(lab, cluster.LABEL):
                if not pod["status"].get("conditions"):
                    pod["status"] |= {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}/status"
                    lab.kubectl(["replace", f"--raw={path}", "--filename=-"], stdin=json.dumps(pod), check=False)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()


def test_kubectl_on_a_node(kube_lab: Lab, namespace: str, pyinfra: Run, tmp_path: Path) -> None:
    """From there the API server is reached over the LAN; what it is asked and what it says travels over SSH."""
    node = kube_lab.node("node-1")
    lan = f"https://{CLUSTER.api_lan}:{CLUSTER.api_port}"
    config = kubeconfig(kube_lab, tmp_path, lambda said: said["clusters"][0]["cluster"].update(server=lan))
    copy = ["scp", "-q", "-F", str(kube_lab.ssh_config), f"{kube_lab.record.programs}/kubectl", f"{node.name}:/tmp/"]
    subprocess.run(copy, check=True, timeout=120)
    node.write("/etc/kubernetes/admin.conf", config.read_text(), 0o600)
    data = {
        "kubectl": "/tmp/kubectl",
        "kubectl_node": node.name,
        "kubeconfig": "/etc/kubernetes/admin.conf",
        "dns_namespace": namespace,
    }
    told = [word for key, value in data.items() for word in ("--data", f"{key}={value}")]
    try:
        done = pyinfra("-y", "--limit", "node-2", "inventories/lab.py", DEPLOY, *told, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "node-2: takes no new pods" in done.stderr and "node-2: takes pods again" in done.stderr
        assert state(kube_lab) == WELL
        assert node.run(["sh", "-c", "ls -d /root/.kube /home/*/.kube 2>/dev/null; true"]).stdout == ""
    finally:
        node.remove("/tmp/kubectl", "/etc/kubernetes/admin.conf")
