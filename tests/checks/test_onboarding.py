"""Every check of a new node, seen to fire and to pass on recorded nodes; on real ones they are in tests/deploys.

The kernels without IPVS or br_netfilter, the clocks and the time daemons are made up: the lab's kernel is one for all.
"""

from __future__ import annotations

import copy
import json
import shlex
from typing import Any, cast

import pytest

from checks import onboarding
from checks.case import Case
from checks.diagnosis import Hop
from checks.finding import Finding, Status
from checks.newcomer import Newcomer
from facts.provision import MODULES, TOOLS, ProvisionState
from facts.snapshot import Snapshot
from models import node as nodes
from models.joined import GUESSED, joined
from models.reference import reference
from tests.checks.kube_fleet import fleet, lines, reading, set_host, set_rules, without_kubernetes

NEW = "node-2"
KERNEL = {"ip_tables": "built in", "ip6_tables": "built in", "nf_tables": "built in"}
POLICY: dict[str, Any] = {
    "backend": "match-majority",
    "mode": None,
    "settings": {"net.ipv4.ip_forward": "1"},
    "conntrack_max": 131072,
}


def fresh() -> dict[str, Snapshot]:
    """Two nodes of a cluster in IPVS mode with legacy iptables, and one without Kubernetes and without pods."""
    found = fleet()
    for read in found.values():
        sysctls = read["kernel"]["value"]["sysctls"]
        sysctls["net.ipv4.ip_forward"] = "1"
        read["kernel"] = reading({"sysctls": sysctls, "modules": dict(KERNEL), "config": {}})
    new = found[NEW]
    without_kubernetes(new)
    set_host(new, "legacy", "legacy")
    new["rulesets"] = reading([])
    new["conntrack"] = found["node-0"]["conntrack"]
    new["pods"] = reading([])
    system = new["system"]["value"]
    assert system
    new["system"] = reading({**system, "container": ""})
    links = [one for one in new["interfaces"]["value"] if not one["name"].startswith(("cilium", "lxc"))]
    routing = new["routes"]["value"]
    assert routing
    new["interfaces"] = reading(links)
    names = {one["name"] for one in links}
    new["routes"] = reading({**routing, "main": [one for one in routing["main"] if one["interface"] in names]})
    return found


def brought(**changed: Any) -> ProvisionState:
    found = {
        "clock": 1000.0,
        "keeper": "chronyd",
        "synchronised": True,
        "said": "Normal",
        "tools": {tool: f"/usr/sbin/{tool}" for tool in TOOLS},
        "modules": dict.fromkeys(MODULES, "on disk"),
    }
    return cast(ProvisionState, {**found, **changed})


def hop(state: str = "ok", source: str = "host", lost: int = 0) -> Hop:
    return cast(
        Hop,
        {
            "id": f"{NEW}/{source}",
            "stage": "host to stub",
            "node": NEW,
            "source": source,
            "destination": "127.0.0.53",
            "port": 53,
            "state": state,
            "losses": [{"protocol": "udp", "name": "google.com", "sent": 20, "lost": lost}],
        },
    )


def judged(found: dict[str, Any], **given: Any) -> dict[str, Finding]:
    """The findings of the new node's own checks."""
    policy = {key: given.pop(key) for key in POLICY if key in given}
    others = {name: read for name, read in found.items() if name != NEW}
    against = reference(others, **{**POLICY, **policy})
    vips = nodes.vips(found, None)[NEW]
    sysctls = found[NEW]["kernel"]["value"]["sysctls"]
    new = Newcomer(
        case=Case(NEW, found, vips, []),
        reference=against,
        provision=given.get("provision", reading(brought(**given.get("brings", {})))),
        asked=given.get("asked", (999.5, 1000.5)),
        settings={name: sysctls[name] for name in against.settings if name in sysctls},
        hops=given.get("hops", [hop()]),
        joined=joined(found[NEW], others),
    )
    findings = [finding for module in onboarding.MODULES for finding in module.check(new)]
    return {finding["check"]: finding for finding in findings}


def said(found: dict[str, Finding], check: str) -> tuple[Status, str]:
    return found[check]["status"], found[check]["sentence"]


def test_a_node_that_may_join() -> None:
    found = judged(fresh())
    assert {check: finding["status"] for check, finding in found.items()} == dict.fromkeys(found, Status.PASS)
    assert len(found) == len(onboarding.MODULES)
    assert onboarding.may_join(found.values())
    assert onboarding.refusal(NEW, "", found.values()) is None
    assert said(found, "ONBOARD-001")[1].endswith("that of 2 of the cluster's 2 other nodes")
    assert said(found, "ONBOARD-004")[1].endswith("over UDP and TCP (those of node-0)")


def test_nothing_judged_is_no_certificate() -> None:
    assert not onboarding.may_join([])
    refused = onboarding.refusal(NEW, "it could not be reached", [])
    assert refused and refused["sentence"] == f"{NEW} must not join: it could not be reached"


def test_another_backend() -> None:
    found = fresh()
    set_host(found[NEW], "nft", "nft")
    status, sentence = said(judged(found), "ONBOARD-001")
    assert (status, sentence) == (
        Status.FAIL,
        "iptables is nft, ip6tables is nft; the cluster has legacy (that of 2 of the cluster's 2 other nodes)",
    )
    refused = onboarding.refusal(NEW, "", judged(found).values())
    assert refused and refused["fix"].endswith("enforce=true")
    assert f'new_nodes=["{NEW}"]' in shlex.split(refused["fix"])
    assert said(judged(found, backend="nft"), "ONBOARD-001")[0] == Status.PASS
    assert said(judged(fresh(), backend="nft"), "ONBOARD-001")[0] == Status.FAIL


def test_one_family_on_another_backend_fails_whatever_the_policy() -> None:
    found = fresh()
    set_host(found[NEW], "legacy", "nft")
    assert said(judged(found), "ONBOARD-001")[0] == Status.FAIL
    alone: dict[str, Any] = {NEW: found[NEW]}
    assert said(judged(alone, backend=None), "ONBOARD-001")[0] == Status.FAIL


def test_a_backend_by_priority_only_is_a_warning() -> None:
    found = fresh()
    set_host(found[NEW], "legacy", "legacy", "auto")
    assert said(judged(found), "ONBOARD-001")[0] == Status.WARN


def test_rules_of_an_earlier_cluster() -> None:
    found = fresh()
    set_rules(found[NEW], {("nft", 4): lines("incident-iptables-nft.txt")})
    status, sentence = said(judged(found), "ONBOARD-001")
    assert status == Status.FAIL and sentence.startswith("nft holds rules of Kubernetes: iptables-nft ")


@pytest.mark.parametrize("backend", ["match-majority", "match-kubelet"])
def test_a_cluster_that_nobody_read_is_unknown(backend: str) -> None:
    """With --limit only the new node is connected: then the policy has to name the backend."""
    found: dict[str, Any] = {**dict.fromkeys(fresh()), NEW: fresh()[NEW]}
    status, sentence = said(judged(found, backend=backend), "ONBOARD-001")
    assert status == Status.UNKNOWN and sentence.endswith("and iptables_backend names none")
    assert said(judged(found, backend="legacy"), "ONBOARD-001")[0] == Status.PASS
    against = reference({name: None for name in found if name != NEW}, **POLICY)
    assert any(sentence.startswith("no other node was read") for sentence in against.open)
    assert any(sentence.startswith("kube-proxy's mode is not known") for sentence in against.open)


def test_a_split_cluster_has_no_backend() -> None:
    found = fresh()
    set_host(found["node-0"], "nft", "nft")
    assert said(judged(found), "ONBOARD-001") == (
        Status.UNKNOWN,
        "iptables is legacy, ip6tables is legacy; what the cluster has is not known: no backend is that of more than "
        "half of the other nodes: nft on 1, legacy on 1, 0 not read",
    )


@pytest.mark.parametrize("module", ["ip_vs", "ip_vs_sh"])
def test_a_kernel_without_ipvs(module: str) -> None:
    modules = {**dict.fromkeys(MODULES, "on disk"), module: "missing"}
    status, sentence = said(judged(fresh(), brings={"modules": modules}), "ONBOARD-002")
    assert status == Status.FAIL
    assert sentence.endswith(f"has no {module}, and kube-proxy is in ipvs mode, as on node-0")
    assert said(judged(fresh(), brings={"modules": modules}, mode="iptables"), "ONBOARD-002")[0] == Status.PASS


def test_a_kernel_without_legacy_iptables() -> None:
    found = fresh()
    cast(dict[str, str], found[NEW]["kernel"]["value"]["modules"])["ip6_tables"] = "not built"
    status, sentence = said(judged(found), "ONBOARD-002")
    assert status == Status.FAIL and sentence.endswith("has no ip6_tables, and iptables is to be legacy")


@pytest.mark.parametrize("wanted", ["32768 60999", " 32768  60999", "32768\t60999"])
def test_a_setting_of_several_words(wanted: str) -> None:
    found, name = fresh(), "net.ipv4.ip_local_port_range"
    found[NEW]["kernel"]["value"]["sysctls"][name] = "32768\t60999"
    assert said(judged(found, settings={name: wanted}), "ONBOARD-003")[0] == Status.PASS
    assert said(judged(found, settings={name: "32768 60998"}), "ONBOARD-003")[0] == Status.FAIL


def test_br_netfilter_has_to_be_loaded() -> None:
    found = fresh()
    policy = {"net.bridge.bridge-nf-call-iptables": "1"}
    found[NEW]["kernel"]["value"]["sysctls"].update(policy)
    assert said(judged(found, settings=policy), "ONBOARD-002")[0] == Status.FAIL
    loaded = {**dict.fromkeys(MODULES, "on disk"), "br_netfilter": "loaded"}
    assert said(judged(found, settings=policy, brings={"modules": loaded}), "ONBOARD-002")[0] == Status.PASS


def test_a_node_that_does_not_say_which_modules_it_has() -> None:
    unknown = dict.fromkeys(MODULES, "unknown")
    assert said(judged(fresh(), brings={"modules": unknown}), "ONBOARD-002")[0] == Status.UNKNOWN


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("net.ipv4.ip_forward", "0", "net.ipv4.ip_forward is 0, and should be 1: the policy's kernel_settings"),
        ("net.ipv4.conf.all.rp_filter", "1", "net.ipv4.conf.all.rp_filter is 1, and should be 0: as on all 2 other"),
    ],
)
def test_a_setting_that_differs(name: str, value: str, words: str) -> None:
    found = fresh()
    found[NEW]["kernel"]["value"]["sysctls"][name] = value
    status, sentence = said(judged(found), "ONBOARD-003")
    assert status == Status.FAIL and sentence.startswith(words)


def test_a_setting_on_which_the_others_do_not_agree_is_not_compared() -> None:
    found = fresh()
    found["node-0"]["kernel"]["value"]["sysctls"]["net.ipv4.conf.all.rp_filter"] = "1"
    assert said(judged(found), "ONBOARD-003")[0] == Status.PASS


def test_a_setting_that_the_kernel_has_not() -> None:
    found = judged(fresh(), settings={"net.bridge.bridge-nf-call-iptables": "1"})
    assert said(found, "ONBOARD-003")[0] == Status.FAIL


def test_the_size_of_the_connection_tracking_table() -> None:
    status, sentence = said(judged(fresh(), conntrack_max=262144), "ONBOARD-003")
    assert status == Status.FAIL and sentence.startswith("room for 131072 tracked connections")
    found = fresh()
    found[NEW]["conntrack"] = reading(None)
    assert said(judged(found), "ONBOARD-003")[0] == Status.WARN
    assert said(judged(found, conntrack_max=None), "ONBOARD-003")[0] == Status.PASS


def test_dnsmasq_that_would_drop_pods_before_there_is_one() -> None:
    found = dnsmasq(fresh(), "except-interface", "cilium_*")
    status, sentence = said(judged(found), "ONBOARD-004")
    assert status == Status.FAIL
    assert "on cilium_host will get no answer" in sentence and "except-interface=cilium_*" in sentence


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        ("except-interface", "lo", Status.PASS, f"over UDP and TCP ({GUESSED})"),
        ("except-interface", "cilium_*", Status.UNKNOWN, "depends on the network plugin: UDP from pod"),
        ("interface", "cilium_host", Status.FAIL, "will get no answer"),
        ("interface", "bond0", Status.FAIL, "will get no answer"),
    ],
)
def test_dnsmasq_is_tried_with_the_usual_plugins_where_no_other_node_was_read(
    name: str, value: str, status: Status, words: str
) -> None:
    found: dict[str, Any] = {**dict.fromkeys(fresh()), NEW: fresh()[NEW]}
    seen = said(judged(dnsmasq(found, name, value)), "ONBOARD-004")
    assert seen[0] == status and words in seen[1]


def dnsmasq(found: Any, name: str, value: str) -> Any:
    """The new node's dnsmasq with this one rule for interfaces."""
    new = copy.deepcopy(found[NEW])
    rules = ("interface", "except-interface", "local-service")
    for instance in new["dnsmasq"]["value"]["instances"]:
        template = next(option for option in instance["options"] if option["name"] == "interface")
        instance["options"] = [option for option in instance["options"] if option["name"] not in rules]
        instance["options"].append({**template, "name": name, "value": value})
    return {**found, NEW: new}


def test_a_node_without_dnsmasq_where_the_others_have_one() -> None:
    found = fresh()
    value = {**found[NEW]["dnsmasq"]["value"], "instances": []}
    found[NEW]["dnsmasq"] = reading(value)
    assert said(judged(found), "ONBOARD-004")[0] == Status.WARN


@pytest.mark.parametrize(
    ("asked", "brings", "status", "words"),
    [
        ((993.0, 994.0), {}, Status.FAIL, "6.0 s ahead"),
        ((1010.0, 1011.0), {}, Status.FAIL, "10.0 s behind"),
        ((1002.0, 1003.0), {}, Status.WARN, "2.0 s behind"),
        ((990.0, 1010.0), {}, Status.UNKNOWN, "took 20.0 s"),
        ((999.5, 1000.5), {"keeper": "", "said": "", "synchronised": None}, Status.FAIL, "no time daemon"),
        ((999.5, 1000.5), {"said": "Not synchronised", "synchronised": False}, Status.FAIL, "chronyd says"),
        ((999.5, 1000.5), {"keeper": "phc2sys", "said": "", "synchronised": None}, Status.WARN, "does not say"),
    ],
)
def test_clocks(asked: tuple[float, float], brings: dict[str, Any], status: Status, words: str) -> None:
    found = said(judged(fresh(), asked=asked, brings=brings), "ONBOARD-005")
    assert found[0] == status and words in found[1]


def test_tools() -> None:
    tools = {tool: f"/usr/sbin/{tool}" for tool in TOOLS if tool not in ("conntrack", "ipset")}
    status, sentence = said(judged(fresh(), brings={"tools": tools}), "ONBOARD-006")
    assert (status, sentence) == (Status.FAIL, "not found: conntrack, ipset (apt-get install conntrack ipset)")
    assert said(judged(fresh(), mode="iptables", brings={"tools": tools}), "ONBOARD-006")[1] == (
        "not found: conntrack (apt-get install conntrack)"
    )


@pytest.mark.parametrize(
    ("hops", "status", "words"),
    [
        ([], Status.UNKNOWN, "nothing was asked from the node"),
        (
            [hop(), hop("loses", "pod 10.0.0.7", 20)],
            Status.FAIL,
            "pod 10.0.0.7 -> 127.0.0.53:53 (host to stub) loses 20",
        ),
        ([hop(), hop("unknown", "pod 10.0.0.7")], Status.UNKNOWN, "could not be asked"),
        ([hop(), hop(source="pod 10.0.0.7")], Status.PASS, "from the node and from 1 of its pods"),
    ],
)
def test_answers(hops: list[Hop], status: Status, words: str) -> None:
    found = said(judged(fresh(), hops=hops), "ONBOARD-007")
    assert found[0] == status and words in found[1]


def test_a_pod_that_seems_to_be_kept_from_dns_refuses_no_node() -> None:
    kept_out: Any = {**hop("unknown", "pod 10.244.5.7", 5), "why": "a NetworkPolicy, as it seems"}
    assert said(judged(fresh(), hops=[hop(), kept_out]), "ONBOARD-007")[0] == Status.PASS


def test_what_was_not_read_is_unknown() -> None:
    unread = {"state": "timed out", "value": None, "detail": ""}
    found = judged(fresh(), provision=unread)
    assert {said(found, check)[0] for check in ("ONBOARD-002", "ONBOARD-005", "ONBOARD-006")} == {Status.UNKNOWN}
    assert not onboarding.may_join(found.values())
    for section, check in (("alternatives", "ONBOARD-001"), ("kernel", "ONBOARD-003"), ("dnsmasq", "ONBOARD-004")):
        nodes_read: Any = fresh()
        nodes_read[NEW][section] = {**nodes_read[NEW][section], "state": "timed out", "detail": ""}
        assert said(judged(nodes_read), check)[0] == Status.UNKNOWN


def test_a_verdict_is_plain_json() -> None:
    refused = onboarding.refusal(NEW, "", judged(fresh(), hops=[]).values())
    assert json.loads(json.dumps(refused)) == refused
