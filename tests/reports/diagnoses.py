"""Diagnoses as the reports get them: healthy, one incident, two at once, unknowns, and one from a hostile node."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

from checks.diagnosis import Diagnosis, Event, Hop, Loss, RuledOut, Stage, Verdict
from checks.finding import Finding, Status

SERVICE = "10.32.0.10"
VIP = "172.25.4.1"
ENDPOINTS = ("10.244.0.11", "10.244.1.13")
NODES = ("node-0", "node-1", "node-2")
CILIUM = "dnsmasq answers what arrives from pods"
STALE = "No rule of the other iptables backend takes the cluster's DNS"

#: What a hostile node can write into names, file lines and logs; "pwned" must never be more than text.
EVIL = (
    "\x1b]0;pwned\x07\x1b[2J\x1b[31m<script>alert('pwned')</script><img src=http://evil.example/x onerror=alert(1)>"
    "\r\n## pwned\n| a | b |\n[click](javascript:alert(1)) ![x](http://evil.example/y.png) `code` ``` ]]> &amp; "
    "{{ 7*7 }} {% x %} [red]markup[/red] \u202eturned\u2066 \x00\x9b31m\ud800 http://evil.example/z"
)


def loss(protocol: str = "udp", name: str = "google.com", lost: int = 0, sent: int = 20, unknown: int = 0) -> Loss:
    """With Wilson's interval."""
    share, z = (lost / sent if sent else 0.0), 1.96
    middle = (share + z * z / (2 * sent)) / (1 + z * z / sent) if sent else 0.5
    half = z * sqrt(share * (1 - share) / sent + z * z / (4 * sent * sent)) / (1 + z * z / sent) if sent else 0.5
    outcomes = {"answered": sent - lost, "timeout": lost, "not sent": unknown}
    answered = sent > lost
    return {
        "protocol": protocol,
        "name": name,
        "sent": sent,
        "lost": lost,
        "unknown": unknown,
        "low": max(0.0, round(middle - half, 4)),
        "high": min(1.0, round(middle + half, 4)),
        "outcomes": {outcome: count for outcome, count in outcomes.items() if count},
        "median_ms": 1.4 if answered else None,
        "slowest_ms": 9.8 if answered else None,
    }


def hop(
    stage: Stage, node: str, source: str, destination: str, owner: str = "", lost: int = 0, unknown: int = 0
) -> Hop:
    """One step, over UDP and TCP alike; with `unknown`, nothing could be sent."""
    sent = 0 if unknown else 20
    losses = [loss(protocol, lost=lost, sent=sent, unknown=unknown) for protocol in ("udp", "tcp")]
    return {
        "id": f"{node}/{source}/{destination}:53",
        "stage": stage,
        "node": node,
        "source": source,
        "destination": destination,
        "port": 53,
        "owner": owner,
        "because": [f"nameserver {destination} in its resolv.conf"],
        "losses": losses,
        "state": "loses" if lost else "unknown" if unknown else "ok",
    }


def finding(
    check: str, title: str, node: str, status: Status = Status.PASS, sentence: str = "", **given: Any
) -> Finding:
    return {
        "check": check,
        "title": title,
        "node": node,
        "status": status,
        "sentence": sentence or "as it should be",
        "evidence": given.get("evidence", []),
        "operation": given.get("operation", ""),
    }


def healthy(nodes: tuple[str, ...] = NODES) -> Diagnosis:
    hops: list[Hop] = []
    for number, node in enumerate(nodes):
        pod, coredns = f"pod 10.244.{number}.5", f"pod {ENDPOINTS[number]}" if number < len(ENDPOINTS) else ""
        hops.append(hop("pod to service", node, pod, SERVICE))
        hops += [
            hop("pod to endpoint", node, pod, endpoint, f"{nodes[at]}/pod {endpoint}")
            for at, endpoint in enumerate(ENDPOINTS[: len(nodes)])
        ]
        if coredns:
            hops.append(hop("endpoint to upstream", node, coredns, VIP, node))
        hops.append(hop("host to service", node, "host", SERVICE))
        hops.append(hop("host to dnsmasq", node, "host", VIP, node))
        hops += [hop("dnsmasq to upstream", node, "host", upstream) for upstream in ("172.28.0.2", "192.18.0.2")]
    findings = [
        finding(check, title, node)
        for node in nodes
        for check, title in (("DNSMASQ-001", CILIUM), ("IPTABLES-001", STALE))
    ]
    return {
        "format": 1,
        "started": "2026-11-22T03:10:00Z",
        "finished": "2026-11-22T03:10:09Z",
        "nodes": dict.fromkeys(nodes, ""),
        "hops": hops,
        "findings": findings,
        "verdicts": [],
        "timeline": [],
        "unseen": [],
    }


def lose(diagnosis: Diagnosis, stage: Stage, node: str, lost: int, destination: str = "") -> Hop:
    """Make the node's hops of a stage lose; the first of them."""
    found = [
        one
        for one in diagnosis["hops"]
        if (one["stage"], one["node"]) == (stage, node) and destination in ("", one["destination"])
    ]
    for one in found:
        one["losses"] = [loss(protocol, lost=lost) for protocol in ("udp", "tcp")]
        one["state"] = "loses"
    return found[0]


def judged(diagnosis: Diagnosis, check: str, node: str, status: Status, sentence: str, **given: Any) -> None:
    """Replace a check's finding on a node, or add it."""
    title = given.pop("title", "Queries for the cluster's DNS pass through IPVS")
    for one in diagnosis["findings"]:
        if (one["check"], one["node"]) == (check, node):
            title = one["title"]
            diagnosis["findings"].remove(one)
            break
    diagnosis["findings"].append(finding(check, title, node, status, sentence, **given))


def verdict(**given: Any) -> Verdict:
    made: Verdict = {
        "check": "",
        "title": "",
        "hop": "",
        "sentence": "",
        "culprits": [],
        "affected": [],
        "consequence": "",
        "evidence": [],
        "explained": [],
        "ruled_out": [],
        "certainty": "certain",
        "operation": "",
        "fix": "",
    }
    return made | given  # type: ignore[return-value]


def cilium(diagnosis: Diagnosis | None = None) -> Diagnosis:
    """node-0's dnsmasq drops what arrives on cilium_host."""
    made = diagnosis or healthy()
    first = lose(made, "endpoint to upstream", "node-0", 20)
    lose(made, "pod to service", "node-0", 10)
    line = "except-interface=cilium_* (/etc/dnsmasq.d/k8s.conf:14)"
    sentence = f"pod {ENDPOINTS[0]} gets no answer at {VIP}: excluded by {line}"
    judged(made, "DNSMASQ-001", "node-0", Status.FAIL, sentence, operation="dnsmasq.interface_policy")
    made["verdicts"].append(
        verdict(
            check="DNSMASQ-001",
            title=CILIUM,
            hop=first["id"],
            sentence=f"pod -> CoreDNS ok, CoreDNS -> {VIP} lost 100%: {line}",
            culprits=["node-0"],
            affected=["node-0", f"node-0 pod {ENDPOINTS[0]}", "node-1"],
            consequence="half of all queries time out: every second one goes to this CoreDNS pod",
            evidence=[
                f"pod {ENDPOINTS[0]} -> {VIP}:53 UDP version.bind CH TXT: answered 0/20, timeout 20",
                f"pod {ENDPOINTS[0]} -> {VIP} ICMP: answered 3/3",
                f"/etc/dnsmasq.d/k8s.conf:14: {line}",
                "capture: 20 arrived on cilium_host, 0 answered, nothing on bond0",
            ],
            explained=["IPVS-001 node-0"],
            ruled_out=[
                RuledOut(check="IPTABLES-001", sentence="no rule outside the backend in use takes port 53"),
                RuledOut(check="CONNTRACK-001", sentence="the table holds 1204 of 262144 flows, 0 dropped"),
            ],
            operation="dnsmasq.interface_policy",
            fix="pyinfra inventory deploys/fix_dns.py --limit node-0 -y",
        )
    )
    made["timeline"] += [
        Event(time="2026-11-22T02:58:11Z", node="node-0", what="k8s.conf changed", source="/etc/dnsmasq.d/k8s.conf"),
        Event(time="2026-11-22T02:58:20Z", node="node-0", what="dnsmasq.service restarted", source="dnsmasq.service"),
        Event(
            time="2026-11-22T02:58:22Z",
            node="node-0",
            what=f"[ERROR] plugin/errors: 2 google.com. A: read udp {ENDPOINTS[0]}:4->{VIP}:53: i/o timeout",
            source="CoreDNS log",
        ),
    ]
    return made


def mixed(diagnosis: Diagnosis | None = None) -> Diagnosis:
    """node-1 has stale rules in nft while kube-proxy works in legacy: half of the queries are lost."""
    made = diagnosis or healthy()
    first = lose(made, "pod to service", "node-1", 11)
    lose(made, "host to service", "node-1", 9)
    sentence = f"a stale rule in nft sends queries for {SERVICE} to 10.244.0.12, which is gone"
    judged(made, "IPTABLES-001", "node-1", Status.FAIL, sentence, operation="netfilter.remove_stale")
    judged(made, "IPVS-001", "node-1", Status.FAIL, "20 questions were sent and IPVS has counted none")
    judged(made, "CONNTRACK-002", "node-1", Status.WARN, "3 flows lead to 10.244.0.12", title="No flow leads nowhere")
    made["verdicts"].append(
        verdict(
            check="IPTABLES-001",
            title=STALE,
            hop=first["id"],
            sentence=f"pod -> {SERVICE} lost 55%: {sentence}",
            culprits=["node-1"],
            affected=["node-1"],
            consequence="every second new connection to cluster DNS goes nowhere",
            evidence=["nft: -A KUBE-SEP-GONE -p udp -m udp -j DNAT --to-destination 10.244.0.12:53 [1432 packets]"],
            explained=["IPVS-001 node-1", "CONNTRACK-002 node-1"],
            ruled_out=[RuledOut(check="DNSMASQ-001", sentence=f"pods are answered at {VIP} over UDP and TCP")],
            operation="netfilter.remove_stale",
            fix="pyinfra inventory deploys/fix_dns.py --data iptables_backend=legacy -y",
        )
    )
    return made


def both() -> Diagnosis:
    """Two incidents at once, and a hop whose cause is not known."""
    made = mixed(cilium())
    judged(
        made,
        "DNSMASQ-004",
        "node-2",
        Status.WARN,
        "dnsmasq runs with an older configuration",
        title="dnsmasq runs what is on disk",
    )
    made["before"] = healthy()["hops"]
    return made


def unknowns() -> Diagnosis:
    """node-2 cannot be reached, node-1's pods cannot be entered, no kubectl."""
    made = healthy()
    made["nodes"]["node-2"] = "connection refused by 198.18.53.12 port 22"
    made["hops"] = [one for one in made["hops"] if one["node"] != "node-2"]
    made["findings"] = [one for one in made["findings"] if one["node"] != "node-2"]
    for one in made["hops"]:
        if one["node"] == "node-1" and one["source"].startswith("pod"):
            one["losses"] = [loss(sent=0, unknown=20)]
            one["state"] = "unknown"
    judged(
        made, "DNSMASQ-001", "node-1", Status.UNKNOWN, "pods: not permitted: only root sees the namespaces of others"
    )
    judged(made, "DNSMASQ-001", "node-2", Status.UNKNOWN, "the node could not be read")
    made["unseen"] = ["no kubectl: EndpointSlices were not compared", "tcpdump is not on node-1: nothing was captured"]
    return made


def hostile() -> Diagnosis:
    """Every text that a node can choose is evil, and some of it is huge."""
    made = cilium()
    node = f"node-0 {EVIL}"
    made["nodes"][node] = EVIL
    made["hops"].append(hop("pod to service", node, f"pod {EVIL}", EVIL, EVIL, lost=20) | {"because": [EVIL]})
    made["hops"][-1]["losses"][0]["name"] = EVIL
    made["hops"][-1]["losses"][0]["outcomes"] = {EVIL: 20}
    made["findings"] += [
        finding(EVIL, EVIL, node, status, EVIL, evidence=[EVIL, "x" * 200_000, "y\n" * 5_000], operation=EVIL)
        for status in Status
    ]
    made["verdicts"].append(
        verdict(
            check=EVIL,
            title=EVIL,
            hop=made["hops"][-1]["id"],
            sentence=EVIL,
            culprits=[node],
            affected=[EVIL] * 3,
            consequence=EVIL,
            evidence=[EVIL, "z" * 100_000],
            explained=[EVIL],
            ruled_out=[RuledOut(check=EVIL, sentence=EVIL)],
            certainty="likely",
            operation=EVIL,
            fix=EVIL,
        )
    )
    made["timeline"].append(Event(time=EVIL, node=node, what=EVIL, source=EVIL))
    made["unseen"].append(EVIL)
    made["before"] = [made["hops"][-1]]
    return made


def large(count: int = 1000) -> Diagnosis:
    """A large fleet: node-0's dnsmasq is broken, seven nodes could not be read."""
    nodes = tuple(f"node-{number}" for number in range(count))
    made = cilium(healthy(nodes))
    for node in nodes[-7:]:
        made["nodes"][node] = "timed out"
        made["hops"] = [one for one in made["hops"] if one["node"] != node]
    return made


ALL: dict[str, Callable[[], Diagnosis]] = {
    "healthy": healthy,
    "cilium": cilium,
    "mixed": mixed,
    "both": both,
    "unknowns": unknowns,
    "hostile": hostile,
    "large": large,
}
