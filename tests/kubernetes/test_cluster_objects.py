"""What is kept in the cluster, on a real API server: accepted, applied once, left alone, and removed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lab.api import Lab
from tests.conftest import Run

pytestmark = [pytest.mark.lab, pytest.mark.kubernetes]

NAMESPACE = "dnsmend-watch"
IMAGE = "images.example.com/tools/dns@sha256:" + "0" * 64
LABELS = {"k8s-app": "kube-dns"}
KINDS = "cronjobs,configmaps,poddisruptionbudgets,networkpolicies"
#: Something to watch: a service and a Deployment in CoreDNS's role. Without a kubelet its pods stay pending.
COREDNS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "selector": {"app": "none"},
            "ports": [{"name": f"dns-{name}", "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")],
        },
    },
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": LABELS},
            "template": {
                "metadata": {"labels": LABELS},
                "spec": {"containers": [{"name": "coredns", "image": IMAGE}]},
            },
        },
    },
]


@pytest.fixture
def coredns(kube_lab: Lab) -> Iterator[Lab]:
    kube_lab.kubectl(["apply", "--filename=-"], stdin=yaml.safe_dump_all(COREDNS))
    yield kube_lab
    kube_lab.kubectl(["delete", "namespace", NAMESPACE, "--wait"])


def keep(pyinfra: Run, *wanted: str, how: str = "-y", **data: str) -> subprocess.CompletedProcess[str]:
    given = {
        "dns_namespace": NAMESPACE,
        "cluster_objects": json.dumps(wanted),
        "dns_probe_image": IMAGE,
        "dns_vips": '["172.25.4.1"]',
        **data,
    }
    options = [each for key, value in given.items() for each in ("--data", f"{key}={value}")]
    return pyinfra(how, "--limit", "node-0", "inventory", "deploys/cluster_objects.py", *options, timeout=300)


def ours(lab: Lab) -> dict[str, dict[str, Any]]:
    selected = "--selector=app.kubernetes.io/managed-by=dnsmend"
    found = lab.kubectl(["get", KINDS, f"--namespace={NAMESPACE}", selected, "--output=json"]).stdout
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in json.loads(found)["items"]}


def deployment(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        lab.kubectl(["get", "deployment", "coredns", f"--namespace={NAMESPACE}", "--output=json"]).stdout
    )
    return found


def quiet(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == 0 and "Success" not in done.stderr.split("--> Results:")[0]


def test_accepted_applied_once_and_removed(coredns: Lab, pyinfra: Run) -> None:
    wanted = ("probe", "budget", "spread", "network-policy", "node-condition")
    untouched = deployment(coredns)

    dry = keep(pyinfra, *wanted, how="--dry")
    assert dry.returncode == 0, dry.stderr
    assert (
        "+ cronjob.batch/dnsmend-probe" in dry.stderr and "~ deployment.apps/coredns: spread by topology" in dry.stderr
    )
    assert ours(coredns) == {} and deployment(coredns) == untouched

    first = keep(pyinfra, *wanted)
    assert first.returncode == 0, first.stderr
    found = ours(coredns)
    assert sorted(found) == [
        "ConfigMap/dnsmend-node-condition",
        "ConfigMap/dnsmend-probe",
        "CronJob/dnsmend-probe",
        "NetworkPolicy/dnsmend-coredns",
        "PodDisruptionBudget/dnsmend-coredns",
    ]
    (constraint,) = deployment(coredns)["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"

    assert quiet(keep(pyinfra, *wanted))
    versions = {name: each["metadata"]["resourceVersion"] for name, each in found.items() if "Config" in name}
    assert {name: ours(coredns)[name]["metadata"]["resourceVersion"] for name in versions} == versions

    fewer = keep(pyinfra, "budget", "spread", coredns_spread="anti-affinity")
    assert fewer.returncode == 0, fewer.stderr
    assert sorted(ours(coredns)) == ["PodDisruptionBudget/dnsmend-coredns"]
    pods = deployment(coredns)["spec"]["template"]["spec"]
    assert pods["affinity"]["podAntiAffinity"] and "topologySpreadConstraints" not in pods

    removed = keep(pyinfra, remove="true")
    assert removed.returncode == 0, removed.stderr
    assert ours(coredns) == {}
    left = deployment(coredns)
    assert left["spec"]["template"]["spec"].get("affinity", {}) == {}
    assert "dnsmend/spread" not in left["metadata"].get("annotations", {})
    assert quiet(keep(pyinfra, remove="true"))


def test_what_is_somebody_elses_is_left_alone(coredns: Lab, pyinfra: Run) -> None:
    theirs = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    patch = {"spec": {"template": {"spec": {"topologySpreadConstraints": [theirs]}}}}
    place = f"--namespace={NAMESPACE}"
    coredns.kubectl(["patch", "deployment", "coredns", place, f"--patch={json.dumps(patch)}"])
    coredns.kubectl(
        ["create", "poddisruptionbudget", "theirs", place, "--selector=k8s-app=kube-dns", "--max-unavailable=1"]
    )
    before = deployment(coredns)["spec"]
    done = keep(pyinfra, "budget", "spread")
    assert quiet(done), done.stderr
    assert "no budget: CoreDNS has theirs, and with a second one every eviction fails" in done.stderr
    assert deployment(coredns)["spec"] == before

    coredns.kubectl(["create", "configmap", "dnsmend-probe", place])
    refused = keep(pyinfra, "probe")
    assert refused.returncode == 1
    assert f"configmap/dnsmend-probe is there already in {NAMESPACE}, and is not dnsmend's" in refused.stderr
    assert ours(coredns) == {}
    assert quiet(keep(pyinfra, remove="true"))


def test_what_somebody_has_edited_is_a_conflict(coredns: Lab, pyinfra: Run) -> None:
    assert keep(pyinfra, "budget").returncode == 0
    patch = '--patch={"spec": {"maxUnavailable": 2}}'
    coredns.kubectl(["patch", "pdb", "dnsmend-coredns", f"--namespace={NAMESPACE}", "--type=merge", patch])
    done = keep(pyinfra, "budget")
    assert done.returncode == 1
    assert "poddisruptionbudget.policy/dnsmend-coredns: somebody else has set fields of it since" in done.stderr
    assert ours(coredns)["PodDisruptionBudget/dnsmend-coredns"]["spec"]["maxUnavailable"] == 2


def test_refusals(coredns: Lab, pyinfra: Run) -> None:
    cilium = keep(pyinfra, "cilium-policy")
    assert cilium.returncode == 1
    assert "stopped before any change: the API server does not know cilium.io/v2" in cilium.stderr
    place = f"--namespace={NAMESPACE}"
    coredns.kubectl(["create", "configmap", "coredns", place, "--from-literal=Corefile=. {\n forward . 9.9.9.9\n}\n"])
    cut_off = keep(pyinfra, "network-policy")
    assert cut_off.returncode == 1
    why = "configmap/coredns forwards to 9.9.9.9, not to port 53 of 172.25.4.1: a policy would cut CoreDNS off"
    assert why in cut_off.stderr
    assert ours(coredns) == {}
    nothing = keep(pyinfra, "probe", dns_namespace="kube-public")
    assert "no service in kube-public listens on port 53" in nothing.stderr


def test_kube_system_takes_them_too(kube_lab: Lab, pyinfra: Run) -> None:
    """Tried by the API server, and nothing more."""
    done = keep(pyinfra, "probe", "budget", "network-policy", how="--dry", dns_namespace="kube-system")
    assert done.returncode == 0, done.stderr
    assert "+ networkpolicy.networking.k8s.io/dnsmend-coredns" in done.stderr
