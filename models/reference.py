"""What a new node is held against: the policy, and where that leaves it open, what the cluster's other nodes have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from facts.netfilter import Backend
from facts.pods import host_interface
from facts.snapshot import Snapshot
from models import kube_backends, kube_services, node
from models.kube_services import Mode
from models.listed import listed

#: Settings of which a new node should have what all others have, where they agree.
COMPARED = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
)


@dataclass(frozen=True)
class Reference:
    """
    What a new node should be like. Each value comes with the sentence that says whose it is.

    + backend: the iptables backend; None with the reason in `backend_because`
    + judges_backend: False where the policy leaves iptables alone and nothing tells the cluster's backend
    + mode: kube-proxy's, "" where nobody tells
    + bridged: the node whose pods are attached to a bridge, "" for none
    + settings: kernel settings, and `settings_because` by their names
    + conntrack_max: tracked connections that there must be room for, None where nobody says
    + serving: the other nodes whose dnsmasq serves DNS
    + open: what could not be compared, in sentences
    """

    backend: Backend | None
    backend_because: str
    judges_backend: bool
    mode: Mode
    mode_because: str
    bridged: str
    settings: Mapping[str, str]
    settings_because: Mapping[str, str]
    conntrack_max: int | None
    serving: tuple[str, ...]
    open: tuple[str, ...]


def reference(
    others: Mapping[str, Snapshot | None],
    *,
    backend: str | None,
    mode: Mode | None,
    settings: Mapping[str, str],
    conntrack_max: int | None,
) -> Reference:
    """
    Put together what is known of the cluster.

    + others: the cluster's other nodes, None for those that were not read
    + backend: the policy's: "legacy", "nft", "match-majority", "match-kubelet" (as the others: a new node has none) or
      None
    + mode, settings, conntrack_max: the policy's
    """
    read = {name: snapshot for name, snapshot in others.items() if snapshot is not None}
    unread = [name for name in others if name not in read]
    chosen, because = _backend(backend, others)
    its_mode, mode_because = _mode(mode, read)
    wanted, whose = _settings(settings, read)
    left = [] if read else ["no other node was read: kernel settings were compared with the policy alone"]
    if unread and read:
        left.append(f"{listed(unread, 5)} could not be read, and was not compared with")
    if not its_mode and not any(kube_services.known(each) and each["kube_proxy"]["value"] for each in read.values()):
        left.append("kube-proxy's mode is not known (kube_proxy_mode in group_data/all.py): IPVS was not asked for")
    return Reference(
        backend=chosen,
        backend_because=because,
        judges_backend=backend is not None or chosen is not None,
        mode=its_mode,
        mode_because=mode_because,
        bridged=next((name for name, snapshot in read.items() if _bridged(snapshot)), ""),
        settings=wanted,
        settings_because=whose,
        conntrack_max=conntrack_max,
        serving=tuple(name for name, vips in node.vips(read, None).items() if vips),
        open=tuple(left),
    )


def _backend(given: str | None, others: Mapping[str, Snapshot | None]) -> tuple[Backend | None, str]:
    for named in kube_backends.BACKENDS:
        if named == given:
            return named, "the policy's iptables_backend"
    counts: Counter[Backend] = Counter(
        found for read in others.values() if read is not None and (found := kube_backends.host(read, 4)) is not None
    )
    unread = sum(read is None for read in others.values())
    if not counts:
        return None, "no other node of the cluster was read, and iptables_backend names none"
    usual, times = counts.most_common(1)[0]
    if 2 * times > counts.total() + unread:
        return usual, f"that of {times} of the cluster's {counts.total() + unread} other nodes"
    said = ", ".join(f"{backend} on {count}" for backend, count in counts.items())
    return None, f"no backend is that of more than half of the other nodes: {said}, {unread} not read"


def _mode(given: Mode | None, read: Mapping[str, Snapshot]) -> tuple[Mode, str]:
    if given:
        return given, "the policy's kube_proxy_mode"
    for name, snapshot in read.items():
        if kube_services.known(snapshot) and (found := kube_services.mode(snapshot)):
            return found, f"as on {name}"
    return "", ""


def _settings(given: Mapping[str, str], read: Mapping[str, Snapshot]) -> tuple[dict[str, str], dict[str, str]]:
    wanted = dict(given)
    because = dict.fromkeys(given, "the policy's kernel_settings")
    for name in COMPARED:
        values = {snapshot["kernel"]["value"]["sysctls"].get(name) for snapshot in read.values()}
        value = values.pop() if len(values) == 1 else None
        if value is not None and name not in wanted:
            wanted[name], because[name] = value, f"as on all {len(read)} other nodes"
    return wanted, because


def _bridged(snapshot: Snapshot) -> bool:
    """Whether pods of Kubernetes are attached to a bridge: their packets pass iptables with br_netfilter only."""
    interfaces = {one["name"]: one for one in snapshot["interfaces"]["value"]}
    pids = {asker.pid for asker in node.askers(snapshot) if asker.kubernetes}
    for pod in snapshot["pods"]["value"]:
        link = host_interface(pod, interfaces.values()) if pod["pid"] in pids else ""
        master = interfaces[link]["master"] if link else ""
        if master in interfaces and interfaces[master]["kind"] == "bridge":
            return True
    return False
