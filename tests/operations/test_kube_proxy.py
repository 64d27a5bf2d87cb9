"""How each form of kube-proxy is restarted, and when it counts as done.

The restart itself runs against a stand-in unit: it shows the commands, the waiting and the refusals. That no query is
lost, and that pods and IPVS come back, only a real kube-proxy can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from facts.ipvs import IpvsTable
from facts.ipvs_lines import Service
from facts.kube_proxy_answer import Form, Pod, Proxy
from lab.faults import stand_ins
from lab.places import Node
from models.refused import Refused
from operations.kube_proxy import again_command, dns_services, restart_command, unsynced, unwritten
from tests.models.rulesets import MIXED
from tests.operations.conftest import Operate
from tests.operations.rules import is_owned, load, save, saves

POD: Pod = {
    "name": "kube-proxy-x7k2p",
    "namespace": "kube-system",
    "uid": "0b9c",
    "sandbox": "5f2e",
    "container": "77aa",
    "image": "kube-proxy:v1.30.0",
}


def proxy(form: Form = "systemd", unit: str = "", pid: int = 100, answers: bool = True, last: float = 1.0) -> Proxy:
    return {
        "form": form,
        "unit": unit,
        "pid": pid,
        "argv": [],
        "mode": "ipvs",
        "answers": answers,
        "health": 200,
        "config": {
            "path": "",
            "mode": "ipvs",
            "sync_period": 0.0,
            "min_sync_period": 0.0,
            "scheduler": "",
            "strict_arp": False,
            "error": "",
        },
        "sync": {"last": last, "last_queued": 1.0, "clock": 2.0, "restore_failures": 0} if answers else None,
        "version": "",
        "pod": POD if form in ("DaemonSet", "static pod") else None,
        "kubelet": 0,
        "cilium": None,
    }


@pytest.mark.parametrize(
    ("form", "unit"),
    [
        ("systemd", "kube-proxy.service"),
        ("k3s", "k3s.service"),
        ("k3s-agent", "k3s-agent.service"),
        ("microk8s", "snap.microk8s.daemon-kubelite.service"),
    ],
)
def test_units_are_restarted(form: Form, unit: str) -> None:
    assert restart_command(proxy(form, unit)) == f"systemctl restart {unit}"


@pytest.mark.parametrize("form", ["DaemonSet", "static pod"])
def test_a_pod_gets_a_new_sandbox(form: Form) -> None:
    assert restart_command(proxy(form)).endswith("crictl stopp 5f2e && crictl rmp 5f2e")


def test_forms_that_nobody_would_start_again_are_refused() -> None:
    with pytest.raises(Refused, match="process 100, which no unit and no kubelet would start again"):
        restart_command(proxy("process"))
    with pytest.raises(Refused, match="runs as k3s, but in no unit"):
        restart_command(proxy("k3s"))
    with pytest.raises(Refused, match="crictl does not show here: delete it with kubectl"):
        restart_command(proxy("DaemonSet") | {"pod": None})
    with pytest.raises(Refused, match="there is no kube-proxy here"):
        restart_command(proxy("none"))


def test_when_it_has_synced() -> None:
    before = proxy(pid=100)
    assert unsynced(before, None) == unsynced(before, proxy(pid=0)) == "kube-proxy does not run"
    assert unsynced(before, proxy(pid=100)) == "the old kube-proxy still runs"
    assert unsynced(before, proxy(pid=101, answers=False)) == "kube-proxy does not answer on its metrics address"
    assert unsynced(before, proxy(pid=101, last=0.0)) == "kube-proxy has not synced yet"
    assert unsynced(before, proxy(pid=101)) == ""
    # What could be read before and cannot be now is unknown; what never could is no reason to wait.
    assert unsynced(before, proxy(pid=101) | {"sync": None}) == "kube-proxy's metrics do not tell whether it has synced"
    assert unsynced(before | {"sync": None}, proxy(pid=101) | {"sync": None}) == ""
    # Where the metrics were out of reach before, they are no reason to wait; where nothing ran, they are.
    assert unsynced(proxy(pid=100, answers=False), proxy(pid=101, answers=False)) == ""
    assert unsynced(proxy(pid=0, answers=False), proxy(pid=101, answers=False)) != ""


def service(protocol: Literal["udp", "tcp"], *servers: str) -> Service:
    return {
        "protocol": protocol,
        "address": "10.32.0.10",
        "port": 53,
        "fwmark": 0,
        "scheduler": "rr",
        "options": [],
        "counters": None,
        "servers": [
            {
                "address": address,
                "port": 53,
                "forward": "masq",
                "weight": 1,
                "active": 0,
                "inactive": 0,
                "counters": None,
            }
            for address in servers
        ],
    }


def ipvs(*services: Service) -> IpvsTable:
    return {
        "support": "loaded",
        "tool": True,
        "services": list(services),
        "total_services": len(services),
        "device": True,
        "addresses": [],
        "total_addresses": 0,
        "connections": [],
        "sysctls": {},
    }


def test_when_its_rules_are_there() -> None:
    wanted = [("udp", "10.32.0.10"), ("tcp", "10.32.0.10")]
    table = ipvs(service("udp", "10.244.0.11"), service("tcp", "10.244.0.11"))
    assert dns_services(table) == wanted
    assert dns_services(None) == []
    assert unwritten("ipvs", MIXED, table, "legacy", wanted) == ""
    no_tcp = ipvs(service("udp", "10.244.0.11"), service("tcp"))
    assert unwritten("ipvs", MIXED, no_tcp, "legacy", wanted) == "IPVS has no real server for 10.32.0.10:53 tcp"
    assert unwritten("iptables", MIXED, None, "legacy", wanted) == ""
    assert unwritten("iptables", MIXED[2:], None, "nft", []) == "nft does not hold kube-proxy's rules (KUBE-SERVICES)"
    assert unwritten("nftables", [], None, "nft", []) == ""


@pytest.fixture
def stand_in(bare: Node) -> Iterator[Node]:
    """node-0 with a unit kube-proxy.service that writes one chain and answers on its metrics address."""
    stand_ins.kube_proxy(bare)
    yield bare
    stand_ins.no_kube_proxy(bare)


def pid(node: Node) -> str:
    return node.run(["systemctl", "show", "kube-proxy", "-p", "MainPID", "--value"]).stdout.strip()


@pytest.mark.lab
def test_it_is_restarted_and_waited_for(stand_in: Node, operate: Operate) -> None:
    stand_in.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-legacy"])
    old = pid(stand_in)
    planned = operate("kube_proxy.restart", "legacy", dry=True)
    assert planned.returncode == 0 and "1 (node-0)" in planned.stderr
    assert pid(stand_in) == old
    done = operate("kube_proxy.restart", "legacy", "wait=60")
    assert done.returncode == 0, done.stderr
    assert pid(stand_in) != old
    assert ":KUBE-SERVICES -" in save(stand_in, "iptables-legacy")


@pytest.mark.lab
def test_one_that_does_not_sync_fails(stand_in: Node, operate: Operate) -> None:
    stand_in.write(stand_ins.NO_SYNC, "")
    # On a busy machine its metrics answer late: the last look, which is the one that is told, must be a good one.
    done = operate("kube_proxy.restart", "nft", "wait=30")
    assert done.returncode == 1
    assert "kube-proxy has not synced yet, 30 s after the restart" in done.stderr, done.stderr


@pytest.mark.lab
def test_one_that_writes_to_the_other_backend_fails(stand_in: Node, operate: Operate) -> None:
    done = operate("ipvs.resync", "legacy", "wait=30")
    assert done.returncode == 1
    assert "legacy does not hold kube-proxy's rules (KUBE-SERVICES), 30 s after the restart" in done.stderr, done.stderr


@pytest.mark.lab
def test_a_node_without_kube_proxy_is_left_alone(bare: Node, operate: Operate) -> None:
    for operation in ("kube_proxy.restart", "ipvs.resync", "ipvs.clear", "kubelet.follow"):
        done = operate(operation, "legacy")
        assert done.returncode == 0, done.stderr
        assert "Success" not in done.stderr.split("--> Results:")[0]


@pytest.mark.lab
def test_with_the_backend_it_goes_back_too(stand_in: Node, operate: Operate) -> None:
    """The rules of both backends and the alternatives are what they were, and kube-proxy writes where it did."""
    for command in ("iptables-nft", "ip6tables-nft"):
        load(stand_in, command)
    for command in ("iptables-legacy", "ip6tables-legacy"):
        # A table that was used once stays registered, which no tool takes back.
        load(stand_in, command, "*nat\n:MINE - [0:0]\n-A MINE -j RETURN\nCOMMIT\n")
    alternatives = ["sh", "-c", "update-alternatives --query iptables; sha256sum /var/lib/dpkg/alternatives/ip*tables"]
    before, selected = saves(stand_in), stand_in.run(alternatives).stdout
    assert any(map(is_owned, before["iptables-nft"])) and not any(map(is_owned, before["iptables-legacy"]))
    for operation in (
        ("alternatives.backend", "legacy"),
        ("netfilter.remove_hints", "losing=nft"),
        ("kube_proxy.restart", "legacy", "wait=60"),
        ("netfilter.remove_stale", "losing=nft"),
    ):
        done = operate(*operation, "run=first")
        assert done.returncode == 0, done.stderr
    changed = saves(stand_in)
    assert ":KUBE-SERVICES -" in changed["iptables-legacy"]
    assert not any(map(is_owned, [*changed["iptables-nft"], *changed["ip6tables-nft"]]))
    old = pid(stand_in)
    dry = operate("runs.undo", "first", dry=True)
    assert "netfilter: iptables-nft-restore --noflush, table nat: " in dry.stderr
    assert "alternatives: update-alternatives --auto iptables" in dry.stderr
    assert "kube-proxy: systemctl restart kube-proxy.service" in dry.stderr
    assert (saves(stand_in), pid(stand_in)) == (changed, old)

    undone = operate("runs.undo", "first")
    assert undone.returncode == 0, undone.stderr
    assert stand_in.run(alternatives).stdout == selected
    assert pid(stand_in) != old
    assert saves(stand_in) == before
    again, new = operate("runs.undo", "first"), pid(stand_in)
    assert again.returncode == 0 and pid(stand_in) == new


def test_a_pod_is_found_anew_when_it_goes_back() -> None:
    command = again_command(proxy("DaemonSet"))
    assert "5f2e" not in command and "--name '^kube-proxy-x7k2p$'" in command and "k8s-app=kube-proxy" in command
    assert again_command(proxy("systemd", "kube-proxy.service")) == "systemctl restart kube-proxy.service"
