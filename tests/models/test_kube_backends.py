"""Which backend each part of a node works on, and what a kube-proxy image would choose."""

from __future__ import annotations

import pytest

from facts.kube_proxy_answer import Form
from facts.netfilter import Backend, Family
from models import kube_backends
from tests.checks.kube_fleet import incident, lines, node, reading, set_host, set_rules


@pytest.mark.parametrize(
    ("hinted", "choice"),
    [
        ([], "nft"),
        ([("legacy", 4)], "legacy"),
        ([("legacy", 6)], "legacy"),
        ([("legacy", 4), ("nft", 4)], "nft"),
        ([("legacy", 4), ("legacy", 6), ("nft", 6)], "nft"),
    ],
)
def test_the_wrapper_looks_at_nft_first(hinted: list[tuple[Backend, Family]], choice: Backend) -> None:
    assert kube_backends.wrapper_choice(hinted) == choice


def test_the_parts_of_the_incidents_node() -> None:
    read = node()
    incident(read)
    assert (kube_backends.host(read, 4), kube_backends.host(read, 6)) == ("legacy", "legacy")
    assert kube_backends.chosen_by(read, 4) == "manual"
    assert kube_backends.kubelet(read, 4) == ["nft", "legacy"]
    assert kube_backends.kubelet(read, 6) == ["nft"]
    assert kube_backends.kube_proxy(read, 4) == ["nft", "legacy"]
    assert kube_backends.kube_proxy(read, 6) == []
    assert kube_backends.summary(read) == (
        "iptables legacy (manual), ip6tables legacy (manual), kubelet nft+legacy (IPv6 nft), kube-proxy nft+legacy"
        " (IPv6 -), live kube rules nft 56+0, legacy 18+0"
    )


def test_chains_of_the_kubelet_alone_are_not_kube_proxys() -> None:
    read = node()
    kubelet = [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":KUBE-FIREWALL - [0:0]",
        "[3:180] -A INPUT -j KUBE-FIREWALL",
        "[0:0] -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP",
        "COMMIT",
    ]
    set_rules(read, {("nft", 4): kubelet})
    nft = kube_backends.rulesets(read, 4)["nft"]
    assert kube_backends.kube_rules(nft) == 2
    assert (kube_backends.proxy_hooks(nft), kube_backends.proxy_chains(nft)) == ([], [])


def test_a_command_that_is_not_there_or_says_nothing() -> None:
    read = node()
    read["alternatives"] = reading(None)
    assert (kube_backends.host(read, 4), kube_backends.chosen_by(read, 4)) == (None, "")
    set_host(read, "legacy", "legacy")
    backends = read["alternatives"]["value"]
    assert backends
    backends["commands"][0]["backend"] = ""
    assert (kube_backends.host(read, 4), kube_backends.host(read, 6)) == (None, "legacy")


def test_what_could_not_be_read_is_told() -> None:
    read = node()
    assert kube_backends.unread(read) == ""
    nft, *others = read["rulesets"]["value"]
    nft["incompatible"] = ["nat"]
    assert kube_backends.unread(read) == (
        "the nft rules for IPv4: iptables cannot show table nat, which holds native nft rules"
    )
    nft["state"], nft["detail"] = "timed out", ""
    assert kube_backends.unread(read) == "the nft rules for IPv4: timed out"
    nft.update({"state": "value", "incompatible": []})
    others[0]["tables"][0]["cut"] = {"dns": 301}
    assert kube_backends.unread(read) == "the legacy rules for IPv4: 301 rules are about DNS, more than were read"


def test_owners_besides_kubernetes() -> None:
    read = node()
    set_rules(read, {("nft", 4): lines("mixed-iptables-nft.txt")})
    nft = kube_backends.rulesets(read, 4)["nft"]
    assert kube_backends.others(nft) == ["admin", "calico", "cilium", "cni", "docker", "flannel"]


@pytest.mark.parametrize(
    ("form", "containerised", "follows"),
    [
        ("systemd", False, True),
        ("process", False, True),
        ("DaemonSet", True, False),
        ("static pod", True, False),
        ("k3s", False, False),
        ("none", False, False),
    ],
)
def test_whose_iptables_kube_proxy_runs(form: Form, containerised: bool, follows: bool) -> None:
    proxy = node()["kube_proxy"]["value"]
    assert proxy
    proxy["form"] = form
    assert kube_backends.containerised(proxy) is containerised
    assert kube_backends.follows_host(proxy) is follows
