"""What FORWARD makes of pods' questions and answers: rules as docker, flannel, Calico and kube-proxy write them."""

from __future__ import annotations

import pytest

from facts.netfilter import Ruleset
from facts.nft_hooks import MOST_RULES, Hook
from models.passage import Packet, native, through
from tests.checks.kube_fleet import condensed

POD = "10.244.0.11"
QUERY = Packet(POD, ("cni0",), new=True)
ANSWER = Packet(POD, ("cni0",), new=False)

DOCKER = (
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
    "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -o docker0 -j DOCKER",
    "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
    "-A DOCKER-USER -j RETURN",
    "-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
    "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
    "-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
)
KUBE = (
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    '-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A KUBE-SERVICES -d 10.32.0.99/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable",
)
#: As an iptables before 1.8.8 prints it (kubernetes#112477).
KUBE_WITHOUT_MARK = tuple(rule.replace(" -m mark --mark 0x4000/0x4000", "") for rule in KUBE)
FLANNEL = (
    '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
    '-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
    '-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT',
)
CALICO = (
    '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
    '-A FORWARD -m mark --mark 0x10000/0x10000 -m comment --comment "cali:S93hcgKJrXEqnTfs" -j ACCEPT',
    '-A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j cali-from-wl-dispatch',
)


def ruleset(*rules: str, policy: str = "DROP") -> Ruleset:
    chains = dict.fromkeys(rule.split()[1] for rule in rules)
    chains |= dict.fromkeys(word for rule in rules for word in rule.split() if word.startswith(("DOCKER", "KUBE-")))
    lines = [
        "*filter",
        f":FORWARD {policy} [0:0]",
        *(f":{chain} - [0:0]" for chain in chains if chain != "FORWARD"),
        *(f"[0:0] {rule}" for rule in sorted(rules, key=lambda rule: rule.split()[1] != "FORWARD")),
        "COMMIT",
    ]
    return next(one for one in condensed({("nft", 4): lines}) if one["state"] == "value")


@pytest.mark.parametrize(
    ("rules", "query", "answer"),
    [
        ((), "dropped", "dropped"),
        (DOCKER, "dropped", "maybe"),
        (KUBE, "dropped", "passes"),
        (KUBE_WITHOUT_MARK, "dropped", "passes"),
        ((*KUBE_WITHOUT_MARK, *FLANNEL), "passes", "passes"),
        ((*DOCKER, *KUBE), "dropped", "passes"),
        ((*DOCKER, *KUBE, *FLANNEL), "passes", "passes"),
        (FLANNEL, "passes", "passes"),
        ((*KUBE, *CALICO), "maybe", "passes"),
        (("-A FORWARD -j NFQUEUE --queue-num 0",), "maybe", "maybe"),
        (("-A FORWARD -j REJECT --reject-with icmp-host-prohibited", *FLANNEL), "dropped", "dropped"),
        (("-A FORWARD -m set --match-set blocked src -j DROP", *FLANNEL), "passes", "passes"),
        (("-A FORWARD ! -s 10.244.0.0/16 -j ACCEPT",), "dropped", "maybe"),
        (("-A FORWARD -s 10.244.0.0/16 -p tcp -j ACCEPT",), "dropped", "dropped"),
        (("-A FORWARD -p udp -m udp --dport 53 -j ACCEPT",), "passes", "maybe"),
        (("-A FORWARD -p udp -m multiport --sports 53,123 -j ACCEPT",), "maybe", "passes"),
        (('-A FORWARD -m comment --comment "-p tcp -j DROP" -j ACCEPT',), "passes", "passes"),
    ],
)
def test_with_the_policy_drop(rules: tuple[str, ...], query: str, answer: str) -> None:
    read = ruleset(*rules)
    assert through(read, QUERY).verdict == query
    assert through(read, ANSWER).verdict == answer


def test_docker_accepts_its_own_containers() -> None:
    for new in (True, False):
        assert through(ruleset(*DOCKER), Packet("172.17.0.2", ("docker0",), new)).verdict == "passes"


def test_of_two_links_none_is_certain() -> None:
    read = ruleset("-A FORWARD -i lxc+ -j ACCEPT")
    assert through(read, Packet(POD, ("cilium_host", "lxc1234"), new=True)).verdict == "maybe"
    assert through(read, Packet(POD, ("lxc1234",), new=True)).verdict == "passes"


def test_the_policy_accept_and_a_rule_that_takes_all() -> None:
    assert through(ruleset(*DOCKER, policy="ACCEPT"), QUERY).decided == "policy FORWARD ACCEPT"
    closed = through(ruleset(*KUBE, "-A FORWARD -j DROP", policy="ACCEPT"), QUERY)
    assert closed == ("dropped", "-A FORWARD -j DROP")


def test_what_was_not_read_is_not_known() -> None:
    read = ruleset(*FLANNEL)
    read["state"], read["detail"] = "failed", "no memory"
    assert through(read, QUERY).verdict == "maybe"
    del (old := ruleset(*FLANNEL))["tables"][0]["passage"]
    assert through(old, QUERY).verdict == "maybe"
    assert through(ruleset(*(f"-A FORWARD -s 192.0.2.{i}/32 -j DROP" for i in range(250)), *FLANNEL), QUERY) == (
        "passes",
        FLANNEL[1],
    )
    many = [f"-A FORWARD -s 192.{i // 250}.2.{i % 250}/32 -j DROP" for i in range(400)]
    assert through(ruleset(*many, *FLANNEL), QUERY).verdict == "maybe"


def test_a_loop_of_chains_ends() -> None:
    read = ruleset("-A FORWARD -j ADMIN-A", "-A ADMIN-A -j ADMIN-B", "-A ADMIN-B -j ADMIN-A")
    assert through(read, QUERY).verdict == "dropped"


@pytest.mark.parametrize(
    ("policy", "rules", "verdict"),
    [
        ("accept", [], "passes"),
        ("drop", [], "dropped"),
        ("drop", ["ip saddr 192.0.2.1 drop"], "dropped"),
        ("drop", ["ct state { established, related } accept"], "maybe"),
        ("accept", ["jump filter_FORWARD_POLICIES", "reject with icmpx admin-prohibited"], "maybe"),
        ("accept", ["reject with icmpx admin-prohibited"], "dropped"),
        ("drop", ["ip saddr 192.0.2.1 drop"] * MOST_RULES, "maybe"),
    ],
)
def test_native_chains(policy: str, rules: list[str], verdict: str) -> None:
    hook: Hook = {"table": "inet filter", "chain": "forward", "hook": "forward", "policy": policy, "rules": rules}
    assert native(hook).verdict == verdict
