"""One verdict per incident: findings and hops that are made by hand, on the nodes of a recorded fleet."""

from __future__ import annotations

import inspect
import json
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from pyinfra.operations import server

from checks import remedies
from checks.catalogue import MODULES
from checks.diagnosis import Hop, Loss, Stage, Verdict
from checks.finding import Finding, Status
from checks.verdict import verdicts
from facts.neighbours import Neighbours
from facts.snapshot import Snapshot
from models.loss import interval

VIPS = {"node-0": "172.25.4.1", "node-1": "172.25.4.2", "node-2": "172.25.4.3"}
SERVICE = "10.32.0.10"
COREDNS = {"node-0": "172.26.2.53", "node-1": "172.26.3.53"}
CLIENTS = {"node-0": "172.26.2.145", "node-1": "172.26.3.145", "node-2": "172.26.4.145"}
CLUSTER_NAME = "kubernetes.default.svc.cluster.local"
OUTSIDE = "google.com"
UPSTREAM = "192.18.0.2"
LINE = "which is excluded by except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)."

ROOT = Path(__file__).resolve().parents[2]
#: Words of a command beside the deploy; DIR is for the reader.
KNOWN = ("pyinfra", "-y", "inventory", "--data", "capture=DIR")

Fleet = dict[str, Snapshot | None]
Lost = dict[tuple[str, str], int]


@pytest.fixture
def fleet() -> Fleet:
    path = Path(__file__).parent.parent / "fixtures" / "fleet.json"
    return cast(Fleet, json.loads(path.read_text()))


def loss(protocol: str, name: str, lost: int, sent: int = 20) -> Loss:
    low, high = interval(lost, sent)
    outcomes = {"answered": sent - lost, "timeout": lost}
    return {
        "protocol": protocol,
        "name": name,
        "sent": sent,
        "lost": lost,
        "unknown": 0,
        "low": low,
        "high": high,
        "outcomes": {outcome: times for outcome, times in outcomes.items() if times},
        "median_ms": 1.0 if lost < sent else None,
        "slowest_ms": 2.0 if lost < sent else None,
    }


def hop(
    stage: Stage, node: str, source: str, destination: str, owner: str, names: list[str], needs: dict[str, list[str]]
) -> Hop:
    return {
        "id": f"{node}/{source}/{destination}:53",
        "stage": stage,
        "node": node,
        "source": source,
        "destination": destination,
        "port": 53,
        "owner": owner,
        "because": [f"nameserver {destination}"],
        "losses": [loss(protocol, name, 0) for name in names for protocol in ("udp", "tcp")],
        "state": "ok",
        "needs": needs,
    }


def cluster() -> list[Hop]:
    """A healthy cluster: clients -> 10.32.0.10 -> two CoreDNS pods -> their nodes' dnsmasq -> one upstream."""
    both = [CLUSTER_NAME, OUTSIDE]
    found: list[Hop] = []
    for node, client in CLIENTS.items():
        source = f"pod {client}"
        ends = [f"{node}/{source}/{address}:53" for address in COREDNS.values()]
        needs = {CLUSTER_NAME: ends, OUTSIDE: ends}
        found.append(hop("pod to service", node, source, SERVICE, "", both, needs))
        for owner, address in COREDNS.items():
            behind = {OUTSIDE: [f"{owner}/pod {address}/{VIPS[owner]}:53"]}
            found.append(hop("pod to endpoint", node, source, address, f"{owner}/pod {address}", both, behind))
    for node, address in COREDNS.items():
        behind = {OUTSIDE: [f"{node}/host/{UPSTREAM}:53"]}
        names = ["version.bind", OUTSIDE]
        found.append(hop("endpoint to upstream", node, f"pod {address}", VIPS[node], node, names, behind))
    for node, vip in VIPS.items():
        behind = {OUTSIDE: [f"{node}/host/{UPSTREAM}:53"]}
        found.append(hop("host to dnsmasq", node, "host", vip, node, ["version.bind", OUTSIDE], behind))
        found.append(hop("dnsmasq to upstream", node, "host", UPSTREAM, "", [OUTSIDE], {}))
    return found


def lose(hops: list[Hop], where: str, lost: int, *names: str) -> None:
    """The hop loses so many of 20 questions, for these names."""
    (one,) = [each for each in hops if each["id"] == where]
    one["losses"] = [
        loss(each["protocol"], each["name"], lost) if not names or each["name"] in names else each
        for each in one["losses"]
    ]
    one["state"] = "loses"


def said(check: str, node: str, status: Status = Status.FAIL, sentence: str = "", **more: Any) -> Finding:
    given = {"evidence": [], "operation": ""} | more
    named = {"check": check, "title": f"title of {check}", "node": node, "status": status, "sentence": sentence}
    return cast(Finding, {**named, **given})


def filtered(node: str, line: str = LINE) -> Finding:
    return said(
        "DNSMASQ-001",
        node,
        sentence=f"pod {CLIENTS[node]} gets no answer at {VIPS[node]}: The query arrives on cilium_host, {line}",
        evidence=["model: the query arrives on cilium_host"],
        operation="dnsmasq.interface_policy",
    )


def dnsmasq_drops(hops: list[Hop], node: str) -> None:
    """node's dnsmasq does not answer its CoreDNS pod: half of all names from outside are lost everywhere."""
    lose(hops, f"{node}/pod {COREDNS[node]}/{VIPS[node]}:53", 20)
    for name, client in CLIENTS.items():
        lose(hops, f"{name}/pod {client}/{COREDNS[node]}:53", 20, OUTSIDE)
        lose(hops, f"{name}/pod {client}/{SERVICE}:53", 10, OUTSIDE)


def short(found: list[Verdict]) -> list[tuple[str, list[str]]]:
    return [(one["check"], one["culprits"]) for one in found]


def test_a_healthy_fleet_has_no_verdict(fleet: Fleet) -> None:
    passing = [said("DNSMASQ-001", node, Status.PASS) for node in VIPS]
    assert verdicts(passing, cluster(), fleet) == []
    assert verdicts([], [], {}) == []


def test_a_dnsmasq_that_drops_pods_hits_those_on_other_nodes_too(fleet: Fleet) -> None:
    hops = cluster()
    dnsmasq_drops(hops, "node-0")
    passing = [
        said("DNSMASQ-003", "node-0", Status.PASS, "dnsmasq.service runs (pid 411)"),
        said("IPVS-001", "node-0", Status.PASS, "IPVS has counted all 60 questions to 10.32.0.10"),
        said("DNSMASQ-001", "node-1", Status.PASS, "pods are answered"),
    ]
    (one,) = verdicts([filtered("node-0"), *passing], hops, fleet)
    assert (one["check"], one["culprits"], one["certainty"]) == ("DNSMASQ-001", ["node-0"], "certain")
    assert one["hop"] == "node-0/pod 172.26.2.53/172.25.4.1:53"
    assert one["sentence"].startswith(
        "pod -> CoreDNS ok, node-0/pod 172.26.2.53 -> 172.25.4.1:53 (node-0): UDP: all of 40 lost"
    )
    assert one["sentence"].endswith(LINE)
    assert one["affected"] == [
        "node-0/pod 172.26.2.145",
        "node-0/pod 172.26.2.53",
        "node-1/pod 172.26.3.145",
        "node-2/pod 172.26.4.145",
    ]
    assert one["consequence"].startswith("4 pods lose 130 of 160 questions over UDP (timeout), 130 of 160 over TCP")
    assert one["operation"] == "dnsmasq.interface_policy"
    assert one["fix"] == "pyinfra inventory deploys/fix_dns.py -y"
    assert {"check": "IPVS-001", "sentence": "node-0: IPVS has counted all 60 questions to 10.32.0.10"} in one[
        "ruled_out"
    ]
    assert {"check": "DNSMASQ-003", "sentence": "node-0: dnsmasq.service runs (pid 411)"} in one["ruled_out"]
    # The pass of another node rules nothing out here.
    assert all(out["check"] != "DNSMASQ-001" for out in one["ruled_out"])


def test_two_incidents_are_two_verdicts(fleet: Fleet) -> None:
    hops = cluster()
    dnsmasq_drops(hops, "node-0")
    lose(hops, f"node-2/pod {CLIENTS['node-2']}/{SERVICE}:53", 20)
    missing = said("IPVS-005", "node-2", sentence=f"{SERVICE} is not on kube-ipvs0", operation="ipvs.resync")
    found = verdicts([filtered("node-0"), missing], hops, fleet)
    assert sorted(short(found)) == [("DNSMASQ-001", ["node-0"]), ("IPVS-005", ["node-2"])]
    (second,) = [one for one in found if one["check"] == "IPVS-005"]
    assert second["affected"] == ["node-2/pod 172.26.4.145"]
    assert second["fix"] == "pyinfra inventory deploys/fix_dns.py -y"


def test_the_same_line_on_two_nodes_is_one_incident_and_another_line_a_second_one(fleet: Fleet) -> None:
    hops = cluster()
    dnsmasq_drops(hops, "node-0")
    dnsmasq_drops(hops, "node-1")
    (one,) = verdicts([filtered("node-0"), filtered("node-1")], hops, fleet)
    assert one["culprits"] == ["node-0", "node-1"]
    other = filtered("node-1", "which interface=bond0 does not name (/etc/dnsmasq.d/lan.conf:2).")
    found = verdicts([filtered("node-0"), other], hops, fleet)
    assert sorted(short(found)) == [("DNSMASQ-001", ["node-0"]), ("DNSMASQ-001", ["node-1"])]


def test_a_resolver_that_asks_itself_may_lose_what_it_knows_itself(fleet: Fleet) -> None:
    hops = cluster()
    (itself,) = [each for each in hops if each["id"] == f"node-2/host/{UPSTREAM}:53"]
    itself["owner"] = "node-2"
    lose(hops, itself["id"], 20)
    # Its processes for TCP all wait for each other.
    lose(hops, f"node-2/host/{VIPS['node-2']}:53", 20)
    circle = said("RESOLVER-001", "node-2", sentence="dnsmasq asks itself")
    (one,) = verdicts([circle], hops, fleet)
    assert (one["check"], one["culprits"], one["certainty"]) == ("RESOLVER-001", ["node-2"], "certain")


def test_the_second_incident_is_one_verdict_with_its_consequences(fleet: Fleet) -> None:
    hops = cluster()
    lose(hops, f"node-0/pod {CLIENTS['node-0']}/{SERVICE}:53", 9)
    findings = [
        said("IPTABLES-003", "node-0", sentence="nft sends it to 10.244.0.11:53", operation="netfilter.remove_stale"),
        said("IPTABLES-002", "node-0"),
        said("IPVS-001", "node-0", sentence="60 questions were sent and IPVS has counted none"),
        said("CONNTRACK-002", "node-0"),
        said("IPVS-004", "node-0", Status.PASS, "UDP 10.32.0.10:53 has no dead real server among 2"),
    ]
    (one,) = verdicts(findings, hops, fleet)
    assert one["check"] == "IPTABLES-003"
    assert one["explained"] == ["CONNTRACK-002 node-0", "IPTABLES-002 node-0", "IPVS-001 node-0"]
    assert [out["check"] for out in one["ruled_out"] if out["check"]] == ["IPVS-004"]
    assert one["fix"] == "pyinfra inventory deploys/fix_dns.py -y"
    assert "36 of 80 lost" in one["sentence"] or "45%" in one["sentence"]


def test_an_upstream_that_does_not_answer_is_named_by_its_hop(fleet: Fleet) -> None:
    hops = cluster()
    for node, vip in VIPS.items():
        lose(hops, f"{node}/host/{UPSTREAM}:53", 20)
        lose(hops, f"{node}/host/{vip}:53", 20, OUTSIDE)
    for node, address in COREDNS.items():
        lose(hops, f"{node}/pod {address}/{VIPS[node]}:53", 20, OUTSIDE)
        for name, client in CLIENTS.items():
            lose(hops, f"{name}/pod {client}/{address}:53", 20, OUTSIDE)
            lose(hops, f"{name}/pod {client}/{SERVICE}:53", 20, OUTSIDE)
    passing = [said("DNSMASQ-001", node, Status.PASS, "pods are answered") for node in VIPS]
    (one,) = verdicts(passing, hops, fleet)
    assert (one["check"], one["culprits"], one["certainty"]) == ("", [], "likely")
    assert one["hop"].endswith(f"/host/{UPSTREAM}:53")
    assert UPSTREAM in one["sentence"] and "no check tells why" in one["sentence"]
    assert len(one["affected"]) == 8
    assert one["fix"] and one["ruled_out"]


@pytest.mark.parametrize("address", ["127.0.0.53", "169.254.20.10"])
def test_what_each_node_has_to_itself_is_broken_on_each(fleet: Fleet, address: str) -> None:
    """A stub, a cache of each node: one address, and as many servers as nodes."""
    hops = cluster()
    for node in VIPS:
        hops.append(hop("host to stub", node, "host", address, node, [OUTSIDE], {}))
    for node in ("node-0", "node-2"):
        lose(hops, f"node-{node[-1]}/host/{address}:53", 20)
    (one,) = verdicts([], hops, fleet)
    assert one["culprits"] == ["node-0", "node-2"]
    assert " (the same on node-2), and no check tells why" in one["sentence"]


def test_a_node_that_is_cut_off_is_the_culprit_of_all_that_it_asks(fleet: Fleet) -> None:
    hops = cluster()
    source = f"pod {CLIENTS['node-2']}"
    for each in hops:
        if each["node"] == "node-2" and each["source"] == source:
            lose(hops, each["id"], 20)
    unknown = said("DNSMASQ-001", "node-2", Status.UNKNOWN, "sockets: tool missing")
    found = verdicts([unknown], hops, fleet)
    assert short(found) == [("", ["node-2"])]
    assert "not known: node-2 DNSMASQ-001: sockets: tool missing" in found[0]["evidence"]


def test_what_is_broken_but_loses_nothing_yet_says_so(fleet: Fleet) -> None:
    stopped = said("KUBEPROXY-001", "node-1", sentence="kube-proxy does not run", operation="kube_proxy.restart")
    (one,) = verdicts([stopped], cluster(), fleet)
    assert (one["check"], one["hop"], one["certainty"]) == ("KUBEPROXY-001", "", "certain")
    assert "nothing that was asked is lost now" in one["consequence"]
    assert one["affected"] == ["node-1"]


def test_a_latent_risk_is_no_verdict_until_something_is_lost_that_nothing_else_explains(fleet: Fleet) -> None:
    risk = said("IPTABLES-001", "node-0", sentence="node-0 is the odd node")
    hops = cluster()
    assert verdicts([risk], hops, fleet) == []
    lose(hops, f"node-0/pod {CLIENTS['node-0']}/{SERVICE}:53", 9)
    (one,) = verdicts([risk], hops, fleet)
    assert (one["check"], one["certainty"]) == ("IPTABLES-001", "likely")
    missing = said("IPVS-005", "node-0", sentence="it is not on kube-ipvs0", operation="ipvs.resync")
    assert short(verdicts([risk, missing], hops, fleet)) == [("IPVS-005", ["node-0"])]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.ID)
def test_every_cause_has_a_command_or_an_advice_that_can_be_copied(module: Any) -> None:
    operation = getattr(module, "OPERATION", "")
    said = remedies.fix(module.ID, operation, ["node-0", "it's; node-1"], {})
    assert said
    done = subprocess.run(["bash", "-n", "-c", said], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), said
    for command in commands(said):
        if command[7:] and command[7].startswith("server."):
            assert command[2:7] == ["--limit", "node-0", "--limit", "it's; node-1", "-y"]
            name, *given = command[7:]
            wanted = inspect.signature(inspect.unwrap(getattr(server, name.removeprefix("server."))))
            wanted.bind(**dict(word.split("=") for word in given))
        elif command[0] == "pyinfra":
            (deploy,) = (word for word in command if word.endswith(".py"))
            assert (ROOT / deploy).is_file()
            assert not [word for word in command if word not in KNOWN and word != deploy]


def commands(said: str) -> list[list[str]]:
    """The words of each command, as a shell has them."""
    words = shlex.split(said, comments=True)
    ends = [-1, *(at for at, word in enumerate(words) if word == "&&"), len(words)]
    return [words[begin + 1 : end] for begin, end in pairwise(ends)]


@pytest.mark.parametrize("stage", get_args(Stage))
def test_where_to_look_further_can_be_copied(stage: Stage) -> None:
    said = remedies.look(hop(stage, "node-0", "host", UPSTREAM, "", [OUTSIDE], {}))
    assert subprocess.run(["bash", "-n", "-c", said]).returncode == 0, said


def test_a_full_table_needs_a_policy_above_the_largest_maximum() -> None:
    nodes: Any = {name: {"conntrack": {"value": {"maximum": most}}} for name, most in (("a", 262144), ("b", 131072))}
    nodes["c"] = None
    said = remedies.fix("CONNTRACK-001", "sysctl.settings", ["a", "b", "c"], nodes)
    command, _, advice = said.partition("  # ")
    assert command == "pyinfra inventory deploys/fix_dns.py -y"
    assert advice.startswith("needs conntrack_max in group_data/all.py above 262144, what the nodes have now")


def test_room_is_made_for_the_family_that_has_none() -> None:
    def keys(*tables: Neighbours) -> list[str]:
        read = cast(Snapshot, {"neighbours": {"value": list(tables)}})
        given = commands(remedies.fix("KERNEL-003", "server.sysctl", ["node-0"], {"node-0": read}))
        return [" ".join(words[6:8]) for words in given]

    full: Neighbours = {"family": 6, "entries": 1000, "limit": 1024, "overflows": 3}
    empty: Neighbours = {"family": 4, "entries": 3, "limit": 1024, "overflows": 0}
    v6 = [f"key=net.ipv6.neigh.default.{each}" for each in ("gc_thresh2 value=32768", "gc_thresh3 value=65536")]
    v4 = [each.replace("ipv6", "ipv4") for each in v6]
    assert keys(full, empty) == v6
    assert keys({**full, "family": 4}, empty) == v4
    # A container does not see them.
    assert keys() == v4 + v6
    assert keys({**full, "limit": 100_000, "entries": 99_000}) == [
        "key=net.ipv6.neigh.default.gc_thresh2 value=100000",
        "key=net.ipv6.neigh.default.gc_thresh3 value=200000",
    ]
