"""The cluster's DNS service on a node: its addresses, its real servers, and the rules that take its packets away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, cast, get_args

from facts.addresses import endpoint, ip_address, of_endpoint, usable
from facts.counters import Counters
from facts.ipvs_lines import Protocol, Server
from facts.netfilter import Backend, Family
from facts.netfilter_table import Dnat, dnat_targets
from facts.pods import Pod
from facts.snapshot import Snapshot
from models import corefile, kube_backends, node

Mode = Literal["ipvs", "iptables", "nftables", ""]

#: Per address of a DNS service its ready endpoints ("10.244.0.11:53"), as the EndpointSlices say.
Endpoints = Mapping[str, Collection[str]]

PROTOCOLS: tuple[Protocol, ...] = ("udp", "tcp")

_SECTIONS: tuple[Literal["kube_proxy", "rulesets", "ipvs", "nft_tables", "alternatives"], ...] = (
    "kube_proxy",
    "rulesets",
    "ipvs",
    "nft_tables",
    "alternatives",
)

#: The programs whose pods stand behind the cluster's DNS service, where nothing else tells which do.
PROGRAMS = ("coredns", "kube-dns")

#: They have kube-proxy inside, unless they were told not to, which their command line does not show.
_EMBEDDED = ("k3s", "k3s-agent", "microk8s")


class Way(NamedTuple):
    """A live rule for a DNS service's address in one backend, and where it sends the query."""

    backend: Backend
    family: Family
    dnat: Dnat


def mode(snapshot: Snapshot) -> Mode:
    """kube-proxy's mode: what it says, what it was told, else what it has left on the node; "" for none of these.

    What one has left that is `gone` tells nothing.
    """
    if gone(snapshot):
        return ""
    proxy = snapshot["kube_proxy"]["value"]
    for said in get_args(Mode):
        if said and proxy and proxy["mode"] == said:
            return cast(Mode, said)
    ipvs = snapshot["ipvs"]["value"]
    if ipvs and ipvs["device"]:
        return "ipvs"
    if {"ip kube-proxy", "ip6 kube-proxy"} & set(snapshot["nft_tables"]["value"]):
        return "nftables"
    return "iptables" if any(kube_backends.kube_proxy(snapshot, family) for family in (4, 6)) else ""


def replaced(snapshot: Snapshot) -> bool:
    """Whether Cilium takes the services' packets before kube-proxy's rules see them ("probe": as far as it can)."""
    proxy = snapshot["kube_proxy"]["value"]
    cilium = proxy["cilium"] if proxy else None
    return cilium is not None and cilium["replacement"] in ("true", "strict", "probe", "partial")


def gone(snapshot: Snapshot) -> bool:
    """Whether Cilium stands in for a kube-proxy that does not run: what there is of its rules is left behind."""
    proxy = snapshot["kube_proxy"]["value"]
    if proxy is None or not replaced(snapshot):
        return False
    if proxy["form"] == "none":
        return True
    # Beside "probe" and "partial" one that is installed is needed.
    whole = proxy["cilium"] is not None and proxy["cilium"]["replacement"] in ("true", "strict")
    return whole and (not proxy["pid"] or (proxy["form"] in _EMBEDDED and not proxy["answers"]))


def known(snapshot: Snapshot | None) -> bool:
    """Whether the snapshot has what this module reads. One that was recorded without it has not."""
    return snapshot is not None and all(
        what in snapshot and snapshot[what]["state"] in ("value", "empty") for what in _SECTIONS
    )


def vips(fleet: Mapping[str, Snapshot | None], endpoints: Endpoints, named: Collection[str] | None = None) -> list[str]:
    """The addresses of the cluster's DNS services, not of others on port 53: consul and PowerDNS have one too.

    Those that the policy names; else, of the EndpointSlices or of what any node's kube-proxy sends on, those that a
    pod's resolv.conf names; where it names none of them, all of the EndpointSlices, or those with a CoreDNS pod behind
    them, or all. Where kube-proxy has no rules that are read, what most pods name.

    + named: the policy's `dns_services`, None where it leaves that to be found

    In IPVS mode stale rules know addresses too: there the IPVS table alone is believed.
    """
    if named is not None:
        return sorted(named)
    sent = {} if endpoints else _sent_on(fleet)
    read = [snapshot for snapshot in fleet.values() if snapshot is not None]
    pods = [pod for snapshot in read for pod in snapshot["pods"]["value"]]
    asked = {address for pod in pods for address in pod["nameservers"]}
    # Others have CoreDNS behind them too: for a LAN, behind a load balancer. A pod with dnsPolicy Default may ask one.
    meant = (asked - _nodes_own(read)) & {*endpoints, *sent} or asked & {*endpoints, *sent}
    if meant and not any(_has(snapshot, node.CACHE) for snapshot in read):
        return sorted(meant)
    if endpoints:
        return sorted(endpoints)
    if not sent:
        return sorted(_most_named(read))
    running = {address for pod in pods if runs_dns(pod) for address in pod["addresses"]}
    found = {vip for vip, to in sent.items() if vip in asked or running & {address for _, address in to}} or set(sent)
    # Of two services that share a load balancer's address, one for each protocol, each has a cluster address without
    # the other protocol, on every node: nobody misses it there.
    whole = {vip for vip in found if vip in asked or {protocol for protocol, _ in sent[vip]} >= set(PROTOCOLS)}
    return sorted(whole or found)


def runs_dns(pod: Pod) -> bool:
    """Whether it is a pod of the cluster's DNS, by what runs in it."""
    return not set(PROGRAMS).isdisjoint(pod["processes"])


def programs(read: Iterable[Snapshot]) -> list[str]:
    """Where pods that run CoreDNS answer for the cluster ("10.244.0.11:53").

    They are those whose Corefile is seen to do so, on whichever port; without any, all of them, on port 53.
    """
    sure: list[str] = []
    others: list[str] = []
    for snapshot in read:
        for pod in filter(runs_dns, snapshot["pods"]["value"]):
            ports = corefile.cluster_ports(corefile.of_netns(pod["netns"], snapshot))
            sure += [endpoint(address, port) for address in pod["addresses"] for port in ports]
            others += [endpoint(address, 53) for address in pod["addresses"]]
    return sorted(dict.fromkeys(sure or others))


def _nodes_own(read: Iterable[Snapshot]) -> set[str]:
    return {address for snapshot in read for address in node.own_servers(snapshot)}


def _most_named(read: Sequence[Snapshot]) -> set[str]:
    """What the resolv.conf of most Kubernetes pods names and nobody has as an address, where no rules tell services.

    So it is with Cilium, OVN-Kubernetes or kube-router in kube-proxy's place, and with its nftables. Where its rules
    are read and none is for port 53, pods ask somebody else.
    """
    counts = Counter(
        address
        for snapshot in read
        if _clusters(snapshot) and mode(snapshot) in ("", "nftables")
        for pod in node.kubernetes_pods(snapshot)
        for address in set(pod["nameservers"])
    )
    taken = _nodes_own(read)
    answering = {of_endpoint(end)[0] for end in programs(read)}
    for snapshot in read:
        for pod in snapshot["pods"]["value"]:
            taken |= set(pod["addresses"])
            if not answering.isdisjoint(pod["addresses"]):
                # Whom CoreDNS asks is not the service that leads to it.
                taken |= {*pod["nameservers"], *(one.address for one in corefile.of_pod(pod, snapshot))}
        for interface in snapshot["interfaces"]["value"]:
            if interface["name"] not in node.DEVICES:
                taken |= {address["address"] for address in interface["addresses"]}
    # A link-local one is a cache on each node, wherever it runs there.
    left = {address: count for address, count in counts.items() if address not in taken and _routed(address)}
    most = max(left.values(), default=0)
    # A few pods name one of their own choice (dnsConfig).
    return {address for address, count in left.items() if 2 * count > most}


def _clusters(snapshot: Snapshot) -> bool:
    """Whether it is a node of a cluster; its rules need not be readable."""
    return all(what in snapshot for what in _SECTIONS) and snapshot["kube_proxy"]["value"] is not None


def _routed(address: str) -> bool:
    return usable(address) and not (ip_address(address).is_loopback or ip_address(address).is_link_local)


def _has(snapshot: Snapshot, name: str) -> bool:
    return any(interface["name"] == name for interface in snapshot["interfaces"]["value"])


def _sent_on(fleet: Mapping[str, Snapshot | None]) -> dict[str, set[tuple[str, str]]]:
    """By address of a service on port 53 the protocols that any node has for it, each with the pods behind it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for snapshot in fleet.values():
        if snapshot is None or not known(snapshot):
            continue
        ipvs = snapshot["ipvs"]["value"]
        if mode(snapshot) == "ipvs" and ipvs:
            for one in ipvs["services"]:
                if one["port"] == 53 and one["protocol"] in PROTOCOLS:
                    behind = ["", *(server["address"] for server in one["servers"])]
                    found.setdefault(one["address"], set()).update((one["protocol"], each) for each in behind)
        elif mode(snapshot) == "iptables":
            for dnat in (way.dnat for way in ways(snapshot) if way.dnat["owner"] == "kube" and way.dnat["vip"]):
                pod, _ = of_endpoint(dnat["to"])
                found.setdefault(dnat["vip"], set()).update((each, pod) for each in _protocols(dnat))
    return found


def _protocols(dnat: Dnat) -> Sequence[str]:
    return [dnat["protocol"]] if dnat["protocol"] else PROTOCOLS


def servers(snapshot: Snapshot, vip: str, protocol: str) -> list[Server] | None:
    """The real servers of a DNS service in IPVS, None where IPVS does not have the service."""
    ipvs = snapshot["ipvs"]["value"]
    for service in ipvs["services"] if ipvs else []:
        if (service["address"], service["port"], service["protocol"]) == (vip, 53, protocol):
            return service["servers"]
    return None


def holders(snapshot: Snapshot, vip: str) -> list[str]:
    """The node's interfaces that have the address: without one, its packets leave the node before IPVS sees them."""
    ipvs = snapshot["ipvs"]["value"]
    if ipvs and vip in ipvs["addresses"]:
        return ["kube-ipvs0"]
    return [
        interface["name"]
        for interface in snapshot["interfaces"]["value"]
        if any(address["address"] == vip for address in interface["addresses"])
    ]


def end(server: Server) -> str:
    """As the EndpointSlices' readers write it."""
    return endpoint(server["address"], server["port"])


def connections(read: Snapshot | Counters, vip: str) -> int | None:
    """The connections that IPVS has counted for a DNS service over UDP; None without the service or its counters."""
    ipvs = read["ipvs"]["value"]
    for service in ipvs["services"] if ipvs else []:
        if (service["address"], service["port"], service["protocol"]) == (vip, 53, "udp") and service["counters"]:
            return service["counters"]["connections"]
    return None


def peers(name: str, fleet: Mapping[str, Snapshot | None], vip: str, protocol: str) -> dict[str, set[str]]:
    """What the other nodes' IPVS tables have as real servers that take new connections, by node."""
    return {
        other: {end(server) for server in servers(snapshot, vip, protocol) or [] if server["weight"]}
        for other, snapshot in fleet.items()
        if other != name and snapshot is not None and known(snapshot) and mode(snapshot) == "ipvs"
    }


def ways(snapshot: Snapshot) -> list[Way]:
    """The ways through live NAT rules that DNS queries take, of both backends and families.

    kube-proxy's chains count where a built-in chain leads into them: what no hook reaches takes no packet.
    """
    found: list[Way] = []
    for one in snapshot["rulesets"]["value"]:
        for table in one["tables"]:
            if table["name"] != "nat":
                continue
            hooked = {rule["target"] for rule in (*table["links"], *table["foreign_jumps"])}
            found += [
                Way(one["backend"], one["family"], dnat)
                for dnat in dnat_targets(table)
                if dnat["owner"] != "kube" or dnat["entry"]["chain"] in hooked
            ]
    return found


def leads_to(way: Way) -> str:
    """The endpoint that a way sends the query to, "" where its rule does not show that.

    A rule without a port leaves it as it is. An older iptables prints the target of a later one's rule as
    `[unsupported revision]`, or as port 0 of nobody.
    """
    to = way.dnat["to"]
    return next((text for text in (endpoint(to, 53), to) if of_endpoint(text)[1]), "")


def targets(name: str, fleet: Mapping[str, Snapshot | None], endpoints: Endpoints, vip: str, protocol: str) -> set[str]:
    """Where queries for a DNS service ought to go, as far as anything on record says so; empty if nothing does.

    The EndpointSlices, else this node's own kube-proxy (its IPVS table, or its rules in the host's backend), else the
    other nodes' kube-proxies. Rules of which one does not show where it leads say nothing: the others are not all.
    """
    if vip in endpoints:
        return set(endpoints[vip])
    own = fleet[name]
    found = _own_targets(own, vip, protocol) if own is not None else set()
    if not found:
        others = (snapshot for other, snapshot in fleet.items() if other != name and snapshot and known(snapshot))
        found = {target for snapshot in others for target in _own_targets(snapshot, vip, protocol)}
    return found


def _own_targets(snapshot: Snapshot, vip: str, protocol: str) -> set[str]:
    if mode(snapshot) == "ipvs":
        return {end(server) for server in servers(snapshot, vip, protocol) or []}
    if mode(snapshot) != "iptables":
        return set()
    found = {
        leads_to(way)
        for way in ways(snapshot)
        if way.dnat["owner"] == "kube"
        and (way.dnat["vip"], way.dnat["protocol"]) == (vip, protocol)
        and way.backend == active(snapshot, way.family)
    }
    return set() if "" in found else found


def active(snapshot: Snapshot, family: Family) -> Backend | None:
    """The backend that kube-proxy writes to now; None where nothing tells.

    A kube-proxy of the host follows the host's command. Another one is where its rules are, if that is one place; with
    rules in both, one in a container is where the hints will lead it.
    """
    proxy = snapshot["kube_proxy"]["value"]
    where = kube_backends.kube_proxy(snapshot, family)
    if len(where) == 1 and not (proxy and kube_backends.follows_host(proxy) and proxy["pid"]):
        return where[0]
    if proxy and kube_backends.containerised(proxy):
        return kube_backends.wrapper_choice(
            (one["backend"], one["family"]) for one in snapshot["rulesets"]["value"] if kube_backends.hints(one)
        )
    return kube_backends.host(snapshot, family) or (where[0] if where else None)
