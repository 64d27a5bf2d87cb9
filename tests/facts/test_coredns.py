"""CoreDNS's Corefile, read from its pod: the parser alone, and on a node with a process of that name."""

from __future__ import annotations

from base64 import b64encode

import pytest
from pyinfra.api.host import Host

from facts import snapshot
from facts.coredns import CoreDnsProcesses
from lab.api import Lab
from models import kube_services, node, path

COREFILE = """\
# What the site wants.
.:53 {
    errors
    secret hunter2
    kubernetes cluster.local in-addr.arpa {
       pods insecure
    }
    forward . 172.25.4.1 10.10.0.21
    cache 30
}
"""
KEPT = ".:53 {\n    kubernetes cluster.local in-addr.arpa {\n    }\n    forward . 172.25.4.1 10.10.0.21\n}\n"


def test_reading() -> None:
    text = b64encode(KEPT.encode()).decode()
    output = ["process 41 4026532345 /etc/coredns/Corefile", text[:76], text[76:], "process 42 4026532346 /Corefile"]
    assert CoreDnsProcesses().read(output) == [
        {"netns": 4026532345, "pid": 41, "path": "/etc/coredns/Corefile", "corefile": KEPT},
        {"netns": 4026532346, "pid": 42, "path": "/Corefile", "corefile": ""},
    ]
    assert CoreDnsProcesses().read([]) == []


@pytest.mark.lab
def test_on_a_node(healed: Lab, reached: Host) -> None:
    """A script called coredns in the resolver's pod; its Corefile is linked as in a ConfigMap's volume."""
    lab_node = healed.node("node-0")
    folder = "/etc/coredns"
    lab_node.write(f"{folder}/..2026/Corefile", COREFILE)
    lab_node.run(["ln", "-s", "..2026", f"{folder}/..data"])
    lab_node.run(["ln", "-s", "..data/Corefile", f"{folder}/Corefile"])
    lab_node.write(f"{folder}/coredns", "#!/bin/sh\nsleep 300 &\nwait\n", 0o755)
    healed.record.faults.setdefault("node-0", []).append("a process called coredns")
    netns = lab_node.plan.pod("coredns").namespace
    run = ["systemd-run", "--quiet", "--unit=test-coredns", f"--property=NetworkNamespacePath={netns}"]
    lab_node.run([*run, f"{folder}/coredns", "-conf", f"{folder}/Corefile"])
    try:
        snapshot.forget(reached)
        read = snapshot.of(reached)
        alone = reached.get_fact(CoreDnsProcesses)
    finally:
        lab_node.run(["systemctl", "stop", "test-coredns"])
    assert read is not None
    (process,) = read["coredns"]["value"]
    assert alone["value"] == [process]
    assert process["path"] == f"{folder}/Corefile"
    assert process["corefile"] == KEPT
    fleet: dict[str, snapshot.Snapshot | None] = {"node-0": read}
    names = path.Names("google.com", "kubernetes.default.svc.cluster.local")
    steps = path.steps(fleet, node.vips(fleet, None), kube_services.vips(fleet, {}), {}, names)
    asked = {step.destination: step for step in steps if step.stage == "endpoint to upstream"}
    assert set(asked) == {"172.25.4.1", "10.10.0.21"}
    assert asked["172.25.4.1"].because == ("forward . 172.25.4.1 10.10.0.21 in its Corefile",)
