"""What the cluster may be given: policies that its network goes by, which cut CoreDNS off from nobody."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.keeping import agreed, parts, reached
from models.refused import Refused
from operations.cluster_files import Object, Served
from tests.models.fleets import Fleet, recorded

#: node-0's and node-1's.
VIPS = ["172.25.4.1", "172.25.4.2"]


def refusal(fleet: Any, corefiles: dict[str, str], given: list[str] | None = VIPS) -> str:
    with pytest.raises(Refused) as caught:
        reached(fleet, corefiles, given)
    said = str(caught.value)
    assert "\n" not in said and ". " not in said.replace("{", "")
    return said


def coredns(fleet: Fleet, *nameservers: str) -> None:
    """The recorded nodes' DNS pods run CoreDNS, and have this resolv.conf."""
    for read in fleet.values():
        for pod in read["pods"]["value"]:
            if pod["processes"] == ["unbound"] or "coredns" in pod["processes"]:
                pod["nameservers"], pod["processes"] = list(nameservers), ["pause", "coredns"]


@pytest.mark.parametrize(("policy", "cilium"), [("network-policy", True), ("cilium-policy", False)])
def test_a_policy_that_the_network_does_not_go_by(policy: Object, cilium: bool) -> None:
    other = "cilium-policy" if cilium else "network-policy"
    with pytest.raises(Refused, match=f'it is "{other}"$'):
        agreed(["budget", policy], Served(cilium=cilium))
    agreed(["budget", policy], Served(cilium=not cilium))
    agreed(["budget"], Served(cilium=cilium))


def test_the_vips_of_the_nodes_or_of_the_policy() -> None:
    assert reached(recorded(), {}, None) == tuple(VIPS)
    assert reached({"node-0": None}, {}, ["172.25.4.9"]) == ("172.25.4.9",)
    assert "no address of these nodes serves DNS" in refusal({}, {}, None)


def test_a_host_that_was_not_read_may_have_a_vip() -> None:
    said = refusal({**recorded(), "node-2": None}, {}, None)
    assert said.startswith("what serves DNS on node-2 was not read: a policy could cut CoreDNS off there (dns_vips in")


@pytest.mark.parametrize(
    ("server", "strange"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("172.25.4.1:5353", "172.25.4.1:5353"),
        ("172.25.4.1 tls://172.25.4.2", "172.25.4.2:853"),
        ("[fd25::1]:5353", "[fd25::1]:5353"),
    ],
)
def test_an_address_or_a_port_that_the_policy_does_not_open(server: str, strange: str) -> None:
    said = refusal(recorded(), {"configmap/coredns": f".:53 {{\n    forward . {server}\n}}\n"})
    assert said.startswith(f"configmap/coredns forwards to {strange}, not to port 53 of 172.25.4.1, 172.25.4.2: a")


@pytest.mark.parametrize("server", ["172.25.4.1", "172.25.4.1:53 dns://172.25.4.2", "[FD25:0::1]:53"])
def test_the_vips_themselves(server: str) -> None:
    vips = [*VIPS, "fd25::1"]
    corefile = f".:53 {{\n    kubernetes cluster.local\n    forward . {server}\n}}\n"
    assert reached(recorded(), {"configmap/coredns": corefile}, vips) == tuple(vips)


RESOLV_CONF = {"configmap/coredns": ".:53 {\n    forward . /etc/resolv.conf {\n        prefer_udp\n    }\n}\n"}


def test_its_resolv_conf() -> None:
    fleet = recorded()
    coredns(fleet, "172.25.4.1")
    assert reached(fleet, RESOLV_CONF, VIPS) == tuple(VIPS)
    coredns(fleet, "172.25.4.1", "192.18.0.2")
    said = refusal(fleet, RESOLV_CONF)
    assert said.startswith("configmap/coredns forwards to 192.18.0.2 (in its /etc/resolv.conf), not to port 53 of")
    # Nothing in a pod is CoreDNS here.
    said = refusal(recorded(), RESOLV_CONF)
    assert said.startswith("configmap/coredns forwards to /etc/resolv.conf, and no CoreDNS with one was found on these")


def test_what_a_corefile_imports() -> None:
    answer: dict[str, Any] = {
        "items": [
            {"metadata": {"name": "coredns"}, "data": {"Corefile": ". {\n}\n", "NodeHosts": "10.0.0.1 node-0\n"}},
            {
                "metadata": {"name": "coredns-custom"},
                "data": {"a.override": "forward . 9.9.9.9\n", "b.server": "campus {\n    forward . 9.9.9.10\n}\n"},
            },
            {"metadata": {"name": "other"}, "data": {"nginx.conf": "forward . 192.0.2.1\n"}},
            {"metadata": {"name": "empty"}},
        ]
    }
    found = parts(answer)
    assert list(found) == [
        "configmap/coredns",
        "configmap/coredns (NodeHosts)",
        "configmap/coredns-custom (a.override)",
        "configmap/coredns-custom (b.server)",
    ]
    assert refusal(recorded(), found).startswith("configmap/coredns-custom (a.override) forwards to 9.9.9.9, not")
    del answer["items"][1]["data"]["a.override"]
    assert refusal(recorded(), parts(answer)).startswith(
        "configmap/coredns-custom (b.server) forwards to 9.9.9.10, not"
    )
