"""What the network policies let through, worked out from their rules: the lab has no plugin that enforces them.

NetworkPolicy as its API reference has it (networking.k8s.io/v1): what no policy selects may do everything, what one
selects may do what a rule allows. CiliumNetworkPolicy as Cilium's "Layer 3 Policies" has it: an address of a node is an
entity and not in any CIDR; `host` is every address of the own node, `remote-node` those that Cilium knows of the others
(a VIP that it does not know is an address like any outside), and a node with an API server is `kube-apiserver` as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from operations.cluster_files import Manifest
from tests.operations.test_cluster_files import rendered, the

VIP, VIP6, API_SERVICE, API_SERVER = "172.25.4.1", "fd25::1", "10.32.0.1", "172.25.4.10"
COREDNS, WEB = {"k8s-app": "kube-dns"}, {"app": "web"}


@dataclass(frozen=True)
class To:
    """Where a packet goes: `entities` are Cilium's words for the address, none for one that is no node's."""

    address: str
    port: int
    protocol: str = "TCP"
    entities: frozenset[str] = frozenset()


def network_policy(policy: Manifest, labels: dict[str, str], to: To) -> bool:
    """Whether a pod with these labels may send there."""
    spec = policy["spec"]
    if not _selects(spec["podSelector"], labels) or "Egress" not in spec["policyTypes"]:
        return True
    return any(
        any(_within(to, peer["ipBlock"]["cidr"]) for peer in rule["to"])
        and any((port["port"], port["protocol"]) == (to.port, to.protocol) for port in rule["ports"])
        for rule in spec["egress"]
    )


def cilium_policy(policy: Manifest, labels: dict[str, str], to: To) -> bool:
    """The same with Cilium."""
    spec = policy["spec"]
    if not _selects(spec["endpointSelector"], labels):
        return True
    for rule in spec["egress"]:
        assert set(rule) <= {"toEntities", "toCIDR", "toPorts"}, "a rule that is not worked out here"
        named = to.entities & set(rule.get("toEntities", ()))
        inside = not to.entities and any(_within(to, cidr) for cidr in rule.get("toCIDR", ()))
        ports = [each for part in rule["toPorts"] for each in part["ports"]] if "toPorts" in rule else None
        through = ports is None or {"port": str(to.port), "protocol": to.protocol} in ports
        if (named or inside) and through:
            return True
    return False


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return set(selector["matchLabels"].items()) <= set(labels.items())


def _within(to: To, cidr: str) -> bool:
    # One of another family is in none.
    return ip_address(to.address) in ip_network(cidr)


DNS_AT_THE_VIP = [To(vip, 53, protocol) for vip in (VIP, VIP6) for protocol in ("UDP", "TCP")]
THE_API = [To(API_SERVICE, 443), To(API_SERVER, 6443)]
#: At the VIP itself all but DNS; DNS that is no VIP's; other pods; what is near to what is allowed.
CUT_OFF = [
    *(To(VIP, port) for port in (22, 80, 443, 6443, 9100, 10250)),
    *(To(vip, port, "UDP") for vip in (VIP, VIP6) for port in (54, 123, 4789)),
    To("172.25.4.3", 53, "UDP"),
    To("9.9.9.9", 53, "UDP"),
    To("172.26.3.145", 8080),
    To(API_SERVER, 22),
    To(API_SERVER, 53, "UDP"),
    To(API_SERVICE, 53, "UDP"),
]


@pytest.mark.parametrize("to", [*DNS_AT_THE_VIP, *THE_API])
def test_coredns_reaches_dns_at_the_vips_and_the_api(to: To) -> None:
    assert network_policy(the("NetworkPolicy", rendered()), COREDNS, to)


@pytest.mark.parametrize("to", CUT_OFF)
def test_coredns_reaches_nothing_else(to: To) -> None:
    assert not network_policy(the("NetworkPolicy", rendered()), COREDNS, to)


OWN, OTHER = frozenset({"host"}), frozenset({"remote-node"})
OWN_API, OTHER_API = OWN | {"kube-apiserver"}, OTHER | {"kube-apiserver"}
KNOWN_AS = [frozenset[str](), OWN, OTHER, OWN_API, OTHER_API]


@pytest.mark.parametrize("entities", KNOWN_AS, ids=lambda found: "+".join(sorted(found)) or "no node")
def test_with_cilium_a_vip_is_reached_over_dns_whatever_it_is_known_as(entities: frozenset[str]) -> None:
    policy = the("CiliumNetworkPolicy", rendered())
    for protocol in ("UDP", "TCP"):
        assert cilium_policy(policy, COREDNS, To(VIP, 53, protocol, entities))
    others = [To(each.address, each.port, each.protocol, entities) for each in CUT_OFF if each.address == VIP]
    through = {each.port for each in others if cilium_policy(policy, COREDNS, each)}
    # Where the API server runs its ports are open at every address of the node: Cilium tells them apart no further.
    assert through == ({443, 6443} if "kube-apiserver" in entities else set())


def test_with_cilium_the_api_is_reached_and_nothing_else() -> None:
    policy = the("CiliumNetworkPolicy", rendered())
    for entities in (OWN_API, OTHER_API, frozenset({"kube-apiserver"})):
        assert cilium_policy(policy, COREDNS, To(API_SERVER, 6443, entities=entities))
        assert not cilium_policy(policy, COREDNS, To(API_SERVER, 22, entities=entities))
    for outside in (To("9.9.9.9", 53, "UDP"), To("172.26.3.145", 8080), To("9.9.9.9", 443)):
        assert not cilium_policy(policy, COREDNS, outside)
    # What the page says: DNS is open on every node's addresses, as Cilium knows a node as a whole.
    assert cilium_policy(policy, COREDNS, To("172.25.4.3", 53, "UDP", OTHER))


@pytest.mark.parametrize("to", [*DNS_AT_THE_VIP, *CUT_OFF, To("172.26.2.53", 53, "UDP")])
def test_other_pods_are_not_concerned(to: To) -> None:
    """A pod that asks CoreDNS among them: nothing is said of what comes in to CoreDNS."""
    network, cilium = the("NetworkPolicy", rendered()), the("CiliumNetworkPolicy", rendered())
    assert network_policy(network, WEB, to) and cilium_policy(cilium, WEB, to)
    assert network["spec"]["policyTypes"] == ["Egress"] and "ingress" not in cilium["spec"]
