"""What is wanted in the cluster, worked out once per run: the objects, and why some of them cannot be had."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from deploys import policy as policies
from deploys.once import once
from facts import cluster, snapshot
from facts.kubectl import Kubectl, KubectlError
from models import node
from models.refused import Refused
from operations import cluster_files, cluster_objects
from operations.cluster_files import Manifest, Object, Reached, Spread
from probes.guard import Asked, in_cluster

#: An address in a Corefile's `forward`, with its port if it has one: "tls://9.9.9.9", "172.25.4.1:53".
_FORWARD = re.compile(r"^\s*forward\s+\S+\s+(.+?)\s*\{?\s*$", re.MULTILINE)


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
        return _plan(snapshot.active(state.inventory))
    except (KubectlError, Refused) as reason:
        raise PyinfraError(f"stopped before any change: {reason}") from reason


def _plan(hosts: list[Host]) -> Keeping:
    policy = policies.of(hosts[0])
    kubectl = policies.cluster(hosts[0])
    if kubectl is None:
        raise Refused("no kubectl (group_data/all.py: kubectl)")
    namespace = policy.dns_namespace
    if policies.switch(hosts[0], "remove"):
        return Keeping(hosts[0].name, kubectl, namespace, [], None)
    wanted = list(policy.cluster_objects)
    served = cluster_objects.served(kubectl)
    if "cilium-policy" in wanted and not served.cilium:
        raise Refused('the API server does not know cilium.io/v2: without Cilium it is "network-policy"')
    if "budget" in wanted and (others := cluster_objects.other_budgets(kubectl, namespace)):
        logger.warning(f"no budget: CoreDNS has {', '.join(others)}, and with a second one every eviction fails")
        wanted.remove("budget")
    asked: list[Asked] = []
    if "probe" in wanted:
        services = sorted(cluster.ready(cluster.dns_services(kubectl, namespace)))
        if not services:
            raise Refused(f"no service in {namespace} listens on port 53: there is nothing for a probe to ask")
        asked = in_cluster(services, policy.service_name, policy.probe_name, policy.probe_deadline)
    objects = cluster_files.objects(
        wanted,
        namespace,
        served,
        _reached(hosts, kubectl, wanted, policy.dns_vips, namespace),
        policy.dns_probe_image,
        asked,
        policy.guard_metrics,
    )
    return Keeping(hosts[0].name, kubectl, namespace, objects, policy.coredns_spread if "spread" in wanted else None)


def _reached(
    hosts: list[Host], kubectl: Kubectl, wanted: list[Object], given: tuple[str, ...] | None, namespace: str
) -> Reached:
    """What CoreDNS may reach. Raises Refused where it asks somebody else, whom a policy would cut off."""
    if not {"network-policy", "cilium-policy"} & set(wanted):
        return Reached(())
    vips = tuple(given or sorted({vip for own in node.vips(snapshot.fleet(hosts), given).values() for vip in own}))
    if not vips:
        raise Refused(
            "no address of these nodes serves DNS (dns_vips in group_data/all.py): a policy would cut CoreDNS off"
        )
    for name, text in _corefiles(kubectl, namespace).items():
        if strange := [address for address in forwards(text) if address not in vips]:
            raise Refused(
                f"{name} forwards to {', '.join(strange)}, not {', '.join(vips)}: a policy would cut "
                "CoreDNS off (dns_vips in group_data/all.py)"
            )
    return Reached(vips, tuple(cluster_objects.servers(kubectl)))


def _corefiles(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    found = kubectl.get("configmaps", f"--namespace={namespace}")["items"]
    return {
        f"configmap/{each['metadata']['name']}": each["data"]["Corefile"]
        for each in found
        if "Corefile" in (each.get("data") or {})
    }


def forwards(corefile: str) -> list[str]:
    """The addresses that a Corefile forwards to; a file (/etc/resolv.conf) is the node's own, and none of them."""
    found: list[str] = []
    for line in _FORWARD.findall(corefile):
        for to in line.split():
            text = to.rpartition("://")[2]
            bare = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
            for candidate in (text, bare):
                try:
                    found.append(str(ip_address(candidate)))
                    break
                except ValueError:
                    continue
    return list(dict.fromkeys(found))
