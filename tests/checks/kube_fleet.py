"""Three nodes of a cluster, put together from recorded outputs by the facts' own readers, to be bent by tests."""

from __future__ import annotations

import copy
import json
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from checks.case import Case
from checks.catalogue import CHECKS
from checks.finding import Finding, Status
from facts.alternatives import Alternatives
from facts.conntrack import Conntrack, DnsFlows
from facts.ipvs import Ipvs
from facts.ipvs_lines import Server
from facts.kube_proxy import KubeProxy
from facts.netfilter import Backend, Family, KubeRules, Ruleset
from facts.netfilter_condense import AWK
from facts.snapshot import Snapshot
from models.kube_backends import BACKENDS, FAMILIES

FIXTURES = Path(__file__).parent.parent / "fixtures"
RECORDED = FIXTURES / "kubernetes"
SAMPLES = Path(__file__).parent.parent / "facts" / "samples"

VIP = "10.32.0.10"
CLOCK = 1795302653.1
NODES = ("node-0", "node-1", "node-2")
Fleet = dict[str, Snapshot]

_ORDER = [Status.SKIP, Status.PASS, Status.WARN, Status.UNKNOWN, Status.FAIL]


def lines(name: str) -> list[str]:
    """A recorded output, without the first line, which tells what it is."""
    return (RECORDED / name).read_text().splitlines()[1:]


def condensed(saves: Mapping[tuple[Backend, Family], list[str]]) -> list[Ruleset]:
    """Saves as the node's awk and the fact make rulesets of them; a backend that is not given is empty."""
    said: list[str] = []
    for family in FAMILIES:
        for backend in BACKENDS:
            said.append(f"save {backend} {family}")
            said += _by_awk("\n".join(saves.get((backend, family), [])))
    return KubeRules().read(said)


@cache
def _by_awk(save: str) -> tuple[str, ...]:
    if not save:
        return ()
    given = f"{save}\n@code 0\n"
    return tuple(
        subprocess.run(["awk", AWK], input=given, capture_output=True, text=True, check=True).stdout.splitlines()
    )


def set_rules(node: Snapshot, saves: Mapping[tuple[Backend, Family], list[str]]) -> None:
    """The node's rules are these, and no others."""
    node["rulesets"] = reading(condensed(saves))


def incident(node: Snapshot) -> None:
    """The node as it was recorded in the incident: stale rules in nft, and flows that only .11 has answered."""
    set_rules(
        node,
        {
            ("nft", 4): lines("incident-iptables-nft.txt"),
            ("legacy", 4): lines("incident-iptables-legacy.txt"),
            ("nft", 6): lines("incident-ip6tables-nft.txt"),
            ("legacy", 6): lines("incident-ip6tables-legacy.txt"),
        },
    )
    node["dns_flows"] = reading(DnsFlows().read([f"ipv4 udp {VIP} 10.244.0.11 32 0 27"]))


def fleet() -> Fleet:
    """Three healthy nodes: alternatives set to legacy, kube-proxy in IPVS mode, two real servers."""
    return {name: node() for name in NODES}


def node() -> Snapshot:
    """One healthy node of a cluster."""
    return copy.deepcopy(_healthy())


@cache
def _healthy() -> Snapshot:
    read = cast(Snapshot, json.loads((FIXTURES / "fleet.json").read_text())["node-0"])
    set_rules(
        read,
        {
            ("legacy", 4): lines("incident-iptables-legacy.txt"),
            ("legacy", 6): lines("incident-ip6tables-legacy.txt"),
        },
    )
    set_host(read, "legacy", "legacy")
    read["ipvs"] = reading(Ipvs().read(_ipvs()))
    read["kube_proxy"] = reading(KubeProxy().read(_kube_proxy()))
    cpu = "cpu=0 found=2 invalid=7 insert=0 insert_failed=0 drop=0 early_drop=0 error=0 search_restart=0"
    read["conntrack"] = reading(Conntrack().read(["table 10 131072", f"tool {cpu}"]))
    flows = [f"ipv4 udp {VIP} 10.244.0.11 16 0 27", f"ipv4 udp {VIP} 10.244.0.13 16 1 27"]
    read["dns_flows"] = reading(DnsFlows().read(flows))
    read["nft_tables"] = reading([])
    read["kernel_log"] = reading([])
    links = ("all", "default", *(one["name"] for one in read["interfaces"]["value"]))
    sysctls = {f"net.ipv4.conf.{name}.rp_filter": "0" for name in links}
    read["kernel"] = reading({"sysctls": sysctls, "modules": {"ip_vs": "loaded"}, "config": {}})
    read["nft_hooks"] = reading([])
    read["udp"] = reading({"received": 48211, "bad_checksums": 0})
    read["neighbours"] = reading([{"family": 4, "entries": 113, "limit": 1024, "overflows": 0}])
    read["networkd"] = reading(None)
    read["image_iptables"] = reading("")
    return read


def set_host(node: Snapshot, iptables: Backend, ip6tables: Backend, status: str = "manual") -> None:
    """What the host's commands are."""
    said: list[str] = []
    for name, backend in (("iptables", iptables), ("ip6tables", ip6tables)):
        recorded = (SAMPLES / "update-alternatives-query-iptables_manual_legacy.txt").read_text().splitlines()[1:]
        query = "\n".join(recorded).replace("iptables", name).replace("Status: manual", f"Status: {status}")
        query = query.replace(f"Value: /usr/sbin/{name}-legacy", f"Value: /usr/sbin/{name}-{backend}")
        said += [f"query {name} 1795302000", *(f"= {line}" for line in query.splitlines())]
        version = f"{name} v1.8.9 ({'nf_tables' if backend == 'nft' else 'legacy'})"
        said += [f"command {name} /usr/sbin/{name} /usr/sbin/xtables-{backend}-multi", f"= {version}"]
    node["alternatives"] = reading(Alternatives().read(said))


def reading(value: Any) -> Any:
    """A section that was read."""
    return {"state": "value" if value else "empty", "value": value, "detail": ""}


def with_cilium(node: Snapshot, replacement: str = "true") -> None:
    """Cilium runs in kube-proxy's place; what that has left on the node stays."""
    node["kube_proxy"] = reading(KubeProxy().read(["kubelet 900", f"cilium 1200 {replacement}"]))


def without_kubernetes(node: Snapshot) -> None:
    """A node that serves DNS to a LAN only: no iptables, no IPVS, nothing tracked."""
    node["kube_proxy"] = reading(None)
    node["alternatives"] = reading(None)
    node["rulesets"] = {"state": "tool missing", "value": [], "detail": "iptables-save not found"}
    node["ipvs"] = reading(Ipvs().read(["support no kernel support"]))
    node["conntrack"] = reading(None)
    node["dns_flows"] = reading([])


def real_servers(node: Snapshot, protocol: str) -> list[Server]:
    """Those of the cluster's DNS, to be changed."""
    ipvs = node["ipvs"]["value"]
    assert ipvs
    return next(one["servers"] for one in ipvs["services"] if (one["protocol"], one["port"]) == (protocol, 53))


def real_server(address: str, weight: int = 1) -> Server:
    """One more."""
    server = copy.deepcopy(real_servers(node(), "udp")[0])
    server["address"], server["weight"] = address, weight
    return server


def judged(fleet: Mapping[str, Snapshot | None], name: str = "node-0", **given: Any) -> dict[str, Finding]:
    """The worst finding of each check of the cluster's services on one node; its IPVS counted every question."""
    case = Case(name, fleet, [], given.pop("results", []), **{"ipvs_deltas": {VIP: (20, 20)}, **given})
    worst: dict[str, Finding] = {}
    for check, run in CHECKS.items():
        if check.startswith("DNSMASQ"):
            continue
        worst[check] = max(run(case), key=lambda finding: _ORDER.index(finding["status"]))
    return worst


def statuses(found: Mapping[str, Finding]) -> dict[str, Status]:
    """Those that did not pass."""
    return {check: finding["status"] for check, finding in found.items() if finding["status"] != Status.PASS}


def _ipvs() -> list[str]:
    saved = lines("incident-ipvsadm.txt")
    return [
        "support loaded",
        *(f"save {line}" for line in saved),
        "total save 8",
        "device",
        *(f"address {address}" for address in (VIP, "10.32.0.1", "10.32.0.77")),
        "total address 3",
        *(f"sysctl {name}:1" for name in ("conntrack", "expire_nodest_conn", "expire_quiescent_template")),
    ]


def _kube_proxy() -> list[str]:
    argv = b64encode(b"/usr/local/bin/kube-proxy\0--config=/etc/kube-proxy.yaml\0--v=2\0").decode()
    config = b64encode(b"\n".join(line.encode() for line in kube_proxy_sample("kube-proxy-config.txt"))).decode()
    return [
        f"process 2335 kube-proxy {argv}",
        "cgroup 0::/system.slice/kube-proxy.service",
        f"config /etc/kube-proxy.yaml {config}",
        "mode ipvs",
        "mode @http 200",
        'metric kubernetes_build_info{git_version="v1.20.2"} 1',
        *(f"metric {line}" for line in kube_proxy_sample("kube-proxy-metrics_sync_ok.txt") if line.startswith("kube")),
        "metric @http 200",
        f"clock {CLOCK}",
        "health ok",
        "health @http 200",
    ]


def kube_proxy_sample(name: str) -> list[str]:
    """What the facts' tests keep of kube-proxy."""
    return (SAMPLES / name).read_text().splitlines()[1:]
