"""Which iptables backend each part of a Kubernetes node works on: the host's commands, the kubelet, kube-proxy.

They do not have to be the same one. The host's commands follow the alternatives; the kubelet and a kube-proxy that the
host runs follow those; a kube-proxy in a container follows the kubelet's hints, whatever the host's alternatives are.
"""

from __future__ import annotations

from collections.abc import Iterable

from facts.kube_proxy_answer import Proxy
from facts.netfilter import Backend, Family, Ruleset
from facts.netfilter_table import Rule
from facts.snapshot import Snapshot

BACKENDS: tuple[Backend, ...] = ("nft", "legacy")
FAMILIES: tuple[Family, ...] = (4, 6)
COMMANDS: dict[Family, str] = {4: "iptables", 6: "ip6tables"}

#: The chains in mangle by which the kubelet shows its backend (kubernetes pkg/kubelet/kubelet_network_linux.go).
HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
#: Chains that kube-proxy makes and the kubelet never does. Up to Kubernetes 1.27 both make KUBE-FIREWALL,
#: KUBE-POSTROUTING and KUBE-MARK-*: those tell nothing about who wrote them.
_PROXY_CHAINS = frozenset(
    "KUBE-" + name
    for name in (
        "SERVICES EXTERNAL-SERVICES NODEPORTS NODE-PORT FORWARD PROXY-FIREWALL SOURCE-RANGES-FIREWALL"
        " LOAD-BALANCER IPVS-FILTER IPVS-OUT-FILTER"
    ).split()
)


def rulesets(snapshot: Snapshot, family: Family) -> dict[Backend, Ruleset]:
    """Both backends' rules for one family."""
    return {one["backend"]: one for one in snapshot["rulesets"]["value"] if one["family"] == family}


def host(snapshot: Snapshot, family: Family) -> Backend | None:
    """The backend of the host's command, None where there is no command or it does not say."""
    backends = snapshot["alternatives"]["value"]
    commands = backends["commands"] if backends else []
    return next((one["backend"] or None for one in commands if one["name"] == COMMANDS[family]), None)


def chosen_by(snapshot: Snapshot, family: Family) -> str:
    """Who chose the host's backend: "auto" (the package's priority), "manual" (a person), "" without alternatives."""
    backends = snapshot["alternatives"]["value"]
    groups = backends["groups"] if backends else []
    return next((one["status"] for one in groups if one["name"] == COMMANDS[family]), "")


def kubelet(snapshot: Snapshot, family: Family) -> list[Backend]:
    """Where the kubelet's hints are: more than one backend when it has changed over, because it never deletes them."""
    return [name for name, ruleset in rulesets(snapshot, family).items() if hints(ruleset)]


def kube_proxy(snapshot: Snapshot, family: Family) -> list[Backend]:
    """Where kube-proxy's rules are, and a hook leads to them."""
    return [name for name, ruleset in rulesets(snapshot, family).items() if proxy_hooks(ruleset)]


def hints(ruleset: Ruleset) -> list[str]:
    """The kubelet's hint chains in this backend."""
    return [
        chain for table in ruleset["tables"] if table["name"] == "mangle" for chain in HINTS if chain in table["owned"]
    ]


def proxy_hooks(ruleset: Ruleset) -> list[Rule]:
    """The rules of built-in chains that lead into kube-proxy's chains."""
    return [link for table in ruleset["tables"] for link in table["links"] if link["target"] in _PROXY_CHAINS]


def proxy_chains(ruleset: Ruleset) -> list[str]:
    """kube-proxy's chains, with or without a hook: named ones as TABLE/CHAIN, and how many there are by kind."""
    found: list[str] = []
    for table in ruleset["tables"]:
        found += [f"{table['name']}/{chain}" for chain in table["owned"] if chain in _PROXY_CHAINS]
        found += [f"{table['name']}/KUBE-{kind}-* ({count})" for kind, count in table["hashed"].items()]
    return found


def kube_rules(ruleset: Ruleset) -> int:
    """How many rules are the kubelet's and kube-proxy's."""
    return sum(table["rules"].get("kube", 0) for table in ruleset["tables"])


def others(ruleset: Ruleset) -> list[str]:
    """Whose rules or chains there are besides, by name."""
    tables = ruleset["tables"]
    return sorted({owner for table in tables for owner in (*table["rules"], *table["chains"])} - {"kube"})


def unread(snapshot: Snapshot) -> str:
    """Why the rules are not known completely, "" if they are."""
    for one in snapshot["rulesets"]["value"]:
        which = f"the {one['backend']} rules for IPv{one['family']}"
        if one["state"] not in ("value", "empty"):
            return f"{which}: {one['state']}: {one['detail']}".removesuffix(": ")
        if one["incompatible"]:
            return f"{which}: iptables cannot show table {', '.join(one['incompatible'])}, which holds native nft rules"
        if cut := sum(table["cut"].get("dns", 0) for table in one["tables"]):
            return f"{which}: {cut} rules are about DNS, more than were read"
    return ""


def containerised(proxy: Proxy) -> bool:
    """Whether kube-proxy brings its own iptables, so that the hints decide and not the host's alternative."""
    return proxy["form"] in ("DaemonSet", "static pod")


def follows_host(proxy: Proxy) -> bool:
    """Whether kube-proxy runs the host's iptables. k3s and microk8s may bring their own."""
    return proxy["form"] in ("systemd", "process")


def wrapper_choice(hinted: Iterable[tuple[Backend, Family]]) -> Backend:
    """What a kube-proxy image's iptables chooses at its start, given where hints are.

    Source: kubernetes-sigs/iptables-wrappers (nft is looked at first, both families; without any hint it is nft).
    """
    where = set(hinted)
    return next((backend for backend in BACKENDS for family in FAMILIES if (backend, family) in where), "nft")


def summary(snapshot: Snapshot) -> str:
    """One line of the matrix: `iptables legacy (manual), ip6tables legacy (manual), kubelet legacy, ...`."""
    said = [
        f"{COMMANDS[family]} {host(snapshot, family) or '?'} ({chosen_by(snapshot, family) or 'no alternative'})"
        for family in FAMILIES
    ]
    for name, where in (("kubelet", kubelet), ("kube-proxy", kube_proxy)):
        found = [f"{'+'.join(where(snapshot, family)) or '-'}" for family in FAMILIES]
        said.append(f"{name} {found[0]} (IPv6 {found[1]})")
    counts = {
        name: [
            kube_rules(rulesets(snapshot, family)[name]) for family in FAMILIES if name in rulesets(snapshot, family)
        ]
        for name in BACKENDS
    }
    said.append("live kube rules " + ", ".join(f"{name} {'+'.join(map(str, two))}" for name, two in counts.items()))
    return ", ".join(said)
