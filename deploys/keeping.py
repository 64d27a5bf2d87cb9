"""What is wanted in the cluster, worked out once per run: the objects, and why some of them cannot be had."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from deploys import policy as policies
from deploys.once import once
from facts import cluster, snapshot
from facts.addresses import ip_address, server, usable
from facts.kubectl import Kubectl, KubectlError
from facts.snapshot import Snapshot
from models import corefile, node
from models.kube_services import runs_dns
from models.listed import listed
from models.refused import Refused
from operations import cluster_files, cluster_objects
from operations.cluster_files import Manifest, Object, Reached, Served, Spread
from probes.guard import Asked, in_cluster


@dataclass(frozen=True)
class Keeping:
    """What the cluster is to have. `spread` is None to take back what was done."""

    host: str
    kubectl: Kubectl
    namespace: str
    objects: list[Manifest]
    spread: Spread | None


@once
def of(state: State) -> Keeping:
    """What is wanted, by the policy of the first host that is reached. Raises PyinfraError where it cannot be had."""
    try:
        return _plan(snapshot.active(state.inventory), [host.name for host in state.inventory])
    except (KubectlError, Refused) as reason:
        raise PyinfraError(f"stopped before any change: {reason}") from reason


def _plan(hosts: list[Host], inventory: list[str]) -> Keeping:
    policy = policies.of(hosts[0])
    kubectl = policies.cluster(hosts[0])
    if kubectl is None:
        raise Refused("no kubectl (group_data/all.py: kubectl)")
    namespace = policy.dns_namespace
    if policies.switch(hosts[0], "remove"):
        return Keeping(hosts[0].name, kubectl, namespace, [], None)
    wanted = list(policy.cluster_objects)
    served = cluster_objects.served(kubectl)
    agreed(wanted, served)
    if "budget" in wanted and (others := cluster_objects.other_budgets(kubectl, namespace)):
        logger.warning(f"no budget: CoreDNS has {', '.join(others)}, and with a second one every eviction fails")
        wanted.remove("budget")
    asked: list[Asked] = []
    if "probe" in wanted:
        services = sorted(cluster.ready(cluster.dns_services(kubectl, namespace)))
        if not services:
            raise Refused(f"no service in {namespace} listens on port 53: there is nothing for a probe to ask")
        asked = in_cluster(services, policy.service_name, policy.probe_name, policy.probe_deadline)
    through = Reached(())
    if {"network-policy", "cilium-policy"} & set(wanted):
        fleet = dict.fromkeys(inventory) | snapshot.fleet(hosts)
        vips = reached(fleet, _corefiles(kubectl, namespace), policy.dns_vips)
        through = Reached(vips, tuple(cluster_objects.servers(kubectl)))
    objects = cluster_files.objects(
        wanted,
        namespace,
        served,
        through,
        policy.dns_probe_image,
        asked,
        policy.guard_metrics,
    )
    return Keeping(hosts[0].name, kubectl, namespace, objects, policy.coredns_spread if "spread" in wanted else None)


def agreed(wanted: Collection[Object], served: Served) -> None:
    """Raises Refused where a policy is wanted that the cluster's network does not go by."""
    if "cilium-policy" in wanted and not served.cilium:
        raise Refused('the API server does not know cilium.io/v2: without Cilium it is "network-policy"')
    if "network-policy" in wanted and served.cilium:
        raise Refused(
            "the API server knows cilium.io/v2, and with Cilium no ipBlock holds an address of a node: "
            'it is "cilium-policy"'
        )


def reached(
    fleet: Mapping[str, Snapshot | None], corefiles: Mapping[str, str], given: Sequence[str] | None
) -> tuple[str, ...]:
    """The VIPs, on whose port 53 a policy lets CoreDNS ask. Raises Refused where it asks somebody else as well.

    + fleet: every host of the inventory, None for one that was not read
    + corefiles: Corefiles and parts of them, by where they are
    + given: the VIPs, where the policy names them
    """
    unread = [name for name, read in fleet.items() if read is None]
    if given is None and unread:
        raise Refused(
            f"what serves DNS on {listed(unread)} was not read: a policy could cut CoreDNS off there "
            "(dns_vips in group_data/all.py)"
        )
    vips = tuple(given or sorted({vip for own in node.vips(fleet, given).values() for vip in own}))
    if not vips:
        raise Refused(
            "no address of these nodes serves DNS (dns_vips in group_data/all.py): a policy would cut CoreDNS off"
        )
    opened = {(str(ip_address(vip)), 53) for vip in vips}
    nameservers = _nameservers(fleet)
    for name, text in corefiles.items():
        named = corefile.forwarded(text)
        files = [path for path, port in named if not port]
        if files and not nameservers:
            raise Refused(
                f"{name} forwards to {files[0]}, and no CoreDNS with one was found on these nodes: "
                "whom a policy would cut off is not known"
            )
        asked = {end: server(*end) for end in named if end[1]}
        asked |= {(one, 53): f"{one} (in its {files[0]})" for one in nameservers if files}
        if strange := [said for end, said in asked.items() if end not in opened]:
            raise Refused(
                f"{name} forwards to {', '.join(strange)}, not to port 53 of {', '.join(vips)}: a policy would cut "
                "CoreDNS off (dns_vips in group_data/all.py)"
            )
    return vips


def _nameservers(fleet: Mapping[str, Snapshot | None]) -> list[str]:
    """What the resolv.conf of any CoreDNS in a pod names."""
    found: set[str] = set()
    for read in fleet.values():
        for pod in node.kubernetes_pods(read) if read else ():
            if runs_dns(pod):
                found |= {str(ip_address(address)) for address in pod["nameservers"] if usable(address)}
    return sorted(found)


def _corefiles(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    return parts(kubectl.get("configmaps", f"--namespace={namespace}"))


def parts(answer: Any) -> dict[str, str]:
    """Every text that a CoreDNS may be started with: what is beside a Corefile, and in coredns-custom, is imported."""
    return {
        f"configmap/{each['metadata']['name']}" + (f" ({key})" if key != "Corefile" else ""): text
        for each in answer["items"]
        for key, text in (each.get("data") or {}).items()
        if "Corefile" in each["data"] or key.endswith((".server", ".override"))
    }
