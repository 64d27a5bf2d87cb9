"""The cluster's objects hold to the published schemas, say what they should, and run as they stand."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import jsonschema
import kubernetes_validate
import pytest
from pyinfra.api.host import Host

from facts.kubectl import Kubectl, KubectlError
from lab.api import Lab
from operations import cluster_objects
from operations.cluster_files import OBJECTS, Manifest, Object, Reached, Served, objects, spread
from probes.guard import in_cluster
from tests.conftest import ROOT

CILIUM = ROOT / "tests/fixtures/schemas/ciliumnetworkpolicy_v2.json"
IMAGE = "images.example.com/tools/dns@sha256:" + "0" * 64
REACHED = Reached(("172.25.4.1", "fd25::1"), (("10.32.0.1", 443), ("172.25.4.10", 6443)))
ASKED = in_cluster(["10.32.0.10"], "kubernetes.default.svc.cluster.local", "www.example.com", 2.0)
NOW = Served("batch/v1", "policy/v1", True)


def rendered(*wanted: Object, served: Served = NOW) -> list[Manifest]:
    return objects(wanted or OBJECTS, "kube-system", served, REACHED, IMAGE, ASKED, "/var/lib/node_exporter")


def the(kind: str, found: list[Manifest]) -> Manifest:
    (one,) = (each for each in found if each["kind"] == kind)
    return one


@pytest.mark.parametrize("version", ["1.25", kubernetes_validate.latest_version()])
def test_schemas(version: str) -> None:
    kinds = []
    for each in rendered():
        kinds.append(each["kind"])
        if each["kind"] != "CiliumNetworkPolicy":
            kubernetes_validate.validate(each, version, strict=True)
    assert sorted(kinds) == [
        "CiliumNetworkPolicy",
        "ConfigMap",
        "ConfigMap",
        "CronJob",
        "NetworkPolicy",
        "PodDisruptionBudget",
    ]


def test_the_schemas_are_strict_enough_to_see_a_typing_mistake() -> None:
    budget = the("PodDisruptionBudget", rendered("budget"))
    budget["spec"]["maxUnavailble"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="maxUnavailble"):
        kubernetes_validate.validate(budget, kubernetes_validate.latest_version(), strict=True)


def test_versions_before_1_21() -> None:
    """What kubernetes-validate has no schema for, and the lab's API server has (tests/kubernetes)."""
    old = rendered("probe", "budget", served=Served("batch/v1beta1", "policy/v1beta1"))
    assert the("CronJob", old)["apiVersion"] == "batch/v1beta1"
    assert the("PodDisruptionBudget", old)["apiVersion"] == "policy/v1beta1"


def test_cilium_schema() -> None:
    # Not checked itself: Go's regular expressions are not Python's.
    schema = jsonschema.Draft202012Validator(json.loads(CILIUM.read_text()))
    policy = the("CiliumNetworkPolicy", rendered("cilium-policy"))
    schema.validate(policy)
    # The schema is strict enough to see a typing mistake.
    policy["spec"]["egress"][0]["toEntities"] = ["hosts"]
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(policy)


def test_every_object_is_labelled() -> None:
    for each in rendered():
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "dnsmend"
        assert labels["app.kubernetes.io/name"] == "dnsmend" and labels["app.kubernetes.io/component"]
        assert each["metadata"]["namespace"] == "kube-system"


def test_policies_allow_dns_to_the_vips_and_nothing_else_there() -> None:
    dns = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    policy = the("NetworkPolicy", rendered())["spec"]
    assert policy["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}} and policy["policyTypes"] == ["Egress"]
    reached = {end["ipBlock"]["cidr"]: rule["ports"] for rule in policy["egress"] for end in rule["to"]}
    assert reached == {
        "172.25.4.1/32": dns,
        "fd25::1/128": dns,
        "10.32.0.1/32": [{"port": 443, "protocol": "TCP"}],
        "172.25.4.10/32": [{"port": 6443, "protocol": "TCP"}],
    }
    cilium = the("CiliumNetworkPolicy", rendered())["spec"]
    ports = [{"ports": [{"port": "53", "protocol": "UDP"}, {"port": "53", "protocol": "TCP"}]}]
    assert cilium["egress"] == [
        {"toEntities": ["host", "remote-node"], "toPorts": ports},
        {"toCIDR": ["172.25.4.1/32", "fd25::1/128"], "toPorts": ports},
        {"toEntities": ["kube-apiserver"], "toPorts": [{"ports": [_tcp("443"), _tcp("6443")]}]},
    ]


def _tcp(port: str) -> dict[str, str]:
    return {"port": port, "protocol": "TCP"}


def test_the_probe_is_bounded_and_has_no_rights() -> None:
    spec = the("CronJob", rendered("probe"))["spec"]
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("* * * * *", "Forbid")
    assert (job["backoffLimit"], job["activeDeadlineSeconds"], pod["restartPolicy"]) == (0, 50, "Never")
    assert container["image"] == IMAGE
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@contextmanager
def answering(rcode: str) -> Iterator[int]:
    """A server on loopback that answers every question with this RCODE; its port, the same over UDP and TCP."""

    def answer(question: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(question))
        response.set_rcode(dns.rcode.from_text(rcode))
        return response.to_wire()

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            question, sock = self.request
            sock.sendto(answer(question), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            message = answer(self.rfile.read(int.from_bytes(self.rfile.read(2), "big")))
            self.wfile.write(len(message).to_bytes(2, "big") + message)

    tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stream)
    with tcp, socketserver.ThreadingUDPServer(("127.0.0.1", tcp.server_address[1]), Datagram) as udp:
        servers: list[socketserver.BaseServer] = [tcp, udp]
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield tcp.server_address[1]
        for server in servers:
            server.shutdown()


@pytest.mark.parametrize("healthy", [True, False])
def test_the_probe_runs_as_it_stands(tmp_path: Path, healthy: bool) -> None:
    """Its command, with the ConfigMap's files: it ends with 0, or with 1 and a line for each question that is lost."""
    with answering(rcode="NOERROR" if healthy else "SERVFAIL") as port:
        asked = in_cluster(["127.0.0.1"], "kubernetes.default.svc.cluster.local", "www.example.com", 2.0)
        for each in asked:
            each.probe["port"] = port
        found = objects(["probe"], "n", NOW, REACHED, IMAGE, asked, "/m")
        for name, text in the("ConfigMap", found)["data"].items():
            (tmp_path / name).write_text(text)
        (container,) = the("CronJob", found)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        command = [each.replace("/probe/", f"{tmp_path}/") for each in container["command"]]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    if healthy:
        assert (done.returncode, done.stdout) == (0, "")
    else:
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert len(lines) == 4
        assert (
            f"service 127.0.0.1:{port} over udp, from the pod, www.example.com A: 3 of 3 lost: SERVFAIL (3)" in lines[2]
        )


def test_spread() -> None:
    topology = spread("topology", None)
    assert topology["metadata"]["annotations"] == {"dnsmend/spread": "topology"}
    (constraint,) = topology["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    back = spread(None, "topology")
    assert back["metadata"]["annotations"] == {"dnsmend/spread": None}
    (gone,) = back["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert gone["$patch"] == "delete" and gone["topologyKey"] == constraint["topologyKey"]
    changed = spread("anti-affinity", "topology")["spec"]["template"]["spec"]
    assert changed["topologySpreadConstraints"] == [gone] and changed["affinity"]["podAntiAffinity"]
    assert spread(None, "anti-affinity")["spec"]["template"]["spec"] == {"affinity": {"podAntiAffinity": None}}


@pytest.mark.parametrize("how", ["topology", "anti-affinity"])
def test_a_deployment_with_the_patch_holds_to_the_schema(how: Any) -> None:
    patch = spread(how, None)
    pod = {"containers": [{"name": "coredns", "image": IMAGE}], **patch["spec"]["template"]["spec"]}
    labels = {"k8s-app": "kube-dns"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", **patch["metadata"]},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("selector", "covered"),
    [
        ({"matchLabels": {"k8s-app": "kube-dns"}}, True),
        ({"matchLabels": {"k8s-app": "kube-dns", "tier": "dns"}}, True),
        ({"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]}, True),
        ({}, True),
        ({"matchLabels": {"k8s-app": "metrics-server"}}, False),
        ({"matchLabels": {"k8s-app": "kube-dns", "tier": "web"}}, False),
    ],
)
def test_two_budgets_on_a_pod(selector: Manifest, covered: bool) -> None:
    assert cluster_objects.covers(selector, {"k8s-app": "kube-dns", "tier": "dns"}) is covered


@pytest.mark.parametrize(
    ("metrics", "code", "said"),
    [
        ('dnsmend_guard_success{stage="vip",target="172.25.4.1",protocol="udp"} 1', 0, "1 ways to ask are answered"),
        ('dnsmend_guard_success{stage="vip",target="172.25.4.1",protocol="udp"} 0', 1, "lost: vip 172.25.4.1/udp"),
        (
            'dnsmend_guard_success{stage="upstream",target="10.10.0.21",protocol="udp"} 0',
            2,
            "the guard asks no DNS of this node",
        ),
        ("", 2, "the guard asks no DNS of this node"),
    ],
)
def test_node_condition(tmp_path: Path, metrics: str, code: int, said: str) -> None:
    config = the("ConfigMap", rendered("node-condition"))
    (rule,) = json.loads(config["data"]["monitor.json"])["rules"]
    assert rule["path"] == "/config/dnsmend/check.sh"
    (tmp_path / "check.sh").write_text(config["data"]["check.sh"])
    now = int(subprocess.run(["date", "+%s"], capture_output=True, text=True).stdout)
    for ran, expected in ((now, (code, said)), (now - 400, (2, "the guard has not run for"))):
        stamp = f'dnsmend_guard_last_run_timestamp_seconds{{stage="probe"}} {ran}'
        (tmp_path / "m").write_text(f"{metrics}\n{stamp}\n")
        done = subprocess.run(
            ["sh", "check.sh", "m"], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
        )
        assert done.returncode == expected[0] and done.stdout.startswith(expected[1]), done
    gone = subprocess.run(["sh", "check.sh", "none"], cwd=tmp_path, capture_output=True, text=True)
    assert (gone.returncode, gone.stdout) == (2, "no guard has left none\n")


#: Takes what it is given, and shows that it came whole.
KUBECTL = """#!/bin/sh
[ "$4" = fail ] && { echo "Error from server (Forbidden): no" >&2; exit 1; }
echo "$*"
cat
"""


@pytest.mark.lab
def test_kubectl_on_a_node_is_given_the_object(healed: Lab, reached: Host) -> None:
    healed.node("node-0").write("/usr/local/bin/kubectl", KUBECTL, 0o755)
    kubectl = Kubectl("kubectl", "/etc/kube.conf", reached)
    given = {"text": 'it\'s 100% "quoted" $HOME\n' + "x" * 40_000}
    said, _, text = cluster_objects.feed(kubectl, given, "apply", "--filename=-").partition("\n")
    assert said == "--kubeconfig=/etc/kube.conf --cache-dir=/dev/null/none --request-timeout=15s apply --filename=-"
    assert json.loads(text) == given
    with pytest.raises(KubectlError, match=r"the API server does not allow it: .*Forbidden"):
        cluster_objects.feed(kubectl, given, "fail")
