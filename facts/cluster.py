"""What the cluster's API says of its DNS: services with their ready endpoints, nodes, and the pods behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, TypedDict, TypeVar

from facts.addresses import endpoint
from facts.kubectl import Kubectl, KubectlError

T = TypeVar("T")

#: On a node that dnsmend has cordoned: the id of the run that did it.
CORDONED = "dnsmend/cordoned"
#: What CoreDNS's pods, workload and service are labelled with, kubeadm's and everybody's since.
LABEL = "k8s-app=kube-dns"

#: Which field of an EndpointSlice's endpoint names its node, by the API's version (v1: since Kubernetes 1.21).
_HOSTNAME = "kubernetes.io/hostname"
_SERVICE = "kubernetes.io/service-name"


class Endpoint(TypedDict):
    """One address behind a service. `to`: "10.244.0.11:53"; `node`: the Node's name, "" where the slice has none."""

    to: str
    node: str
    ready: bool


class DnsService(TypedDict):
    """A service that listens on port 53. `addresses`: its cluster IPs of both families; empty for a headless one."""

    name: str
    addresses: list[str]
    endpoints: list[Endpoint]


class Node(TypedDict):
    """A Node object.

    + addresses: its InternalIPs and ExternalIPs; hostnames: its Hostname and DNS names
    + schedulable: False once it is cordoned; cordoned_by: the dnsmend run that did it, "" for somebody else
    + version: the resourceVersion, for a change that must not overtake another one
    """

    name: str
    addresses: list[str]
    hostnames: list[str]
    schedulable: bool
    cordoned_by: str
    version: str


class Pod(TypedDict):
    """A pod in CoreDNS's role. `why`: what keeps it from being ready, in the API's words; "" for nothing."""

    name: str
    node: str
    ready: bool
    why: str


def dns_services(kubectl: Kubectl, namespace: str) -> list[DnsService]:
    """The DNS services of a namespace with their endpoints, in one request. Raises KubectlError."""
    return read_services(kubectl.get("services,endpointslices.discovery.k8s.io", f"--namespace={namespace}"))


def nodes(kubectl: Kubectl) -> list[Node]:
    """Every Node. Raises KubectlError."""
    return _understood(read_nodes, kubectl.get("nodes"))


def dns_pods(kubectl: Kubectl, namespace: str) -> list[Pod]:
    """The pods in CoreDNS's role. Raises KubectlError."""
    return _understood(read_pods, kubectl.get("pods", f"--namespace={namespace}", f"--selector={LABEL}"))


def read_services(answer: Any) -> list[DnsService]:
    """Services that listen on port 53, and their endpoints, of a List with Services and EndpointSlices.

    EndpointSlices may be discovery.k8s.io/v1beta1 or v1. An endpoint whose readiness is not known counts as ready, as
    the API's description asks for. Raises KubectlError.
    """
    return _understood(_services, answer)


def read_nodes(answer: Any) -> list[Node]:
    """The Nodes of a NodeList."""
    return [_node(each) for each in answer["items"]]


def read_pods(answer: Any) -> list[Pod]:
    """The pods of a PodList. One that is being deleted is not ready, whatever its condition says."""
    return [_pod(each) for each in answer["items"]]


def ready(services: Iterable[DnsService]) -> dict[str, set[str]]:
    """Per address of a DNS service its ready endpoints: `models.kube_services.Endpoints`."""
    found: dict[str, set[str]] = {}
    for service in services:
        for address in service["addresses"]:
            family = ip_address(address).version
            found[address] = {
                endpoint["to"]
                for endpoint in service["endpoints"]
                if endpoint["ready"] and _version(endpoint["to"]) == family
            }
    return found


def serving(services: Iterable[DnsService]) -> set[str]:
    """The nodes that hold a ready endpoint of a DNS service: those with a healthy CoreDNS."""
    return {each["node"] for service in services for each in service["endpoints"] if each["ready"] and each["node"]}


def node_of(found: Sequence[Node], name: str, addresses: Iterable[str]) -> Node:
    """The Node that an inventory's host is. Raises KubectlError where none or several fit.

    + name: the host's name, which fits a Node's name or one of its hostnames
    + addresses: the host's own addresses; a Node that fits by name, and has none of them, is of another cluster.
      Empty where they are not known
    """
    own = {str(ip_address(each)) for each in addresses}
    for each in found:
        if name != each["name"] and name not in each["hostnames"]:
            continue
        if own and each["addresses"] and own.isdisjoint(each["addresses"]):
            raise KubectlError(
                f"the cluster's node {each['name']} has {', '.join(each['addresses'])}, and {name} does not: "
                "kubectl speaks to another cluster"
            )
        return each
    fitting = [each for each in found if not own.isdisjoint(each["addresses"])]
    if len(fitting) != 1:
        several = f"several of the cluster's nodes fit: {', '.join(each['name'] for each in fitting)}"
        raise KubectlError(f"{several if fitting else 'no node of the cluster'} has the name {name} or its addresses")
    return fitting[0]


def _understood(read: Callable[[Any], T], answer: Any) -> T:
    try:
        return read(answer)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise KubectlError(f"the API server's answer is not understood: {error!r:.200}") from error


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r:.60}")
    return value


def _services(answer: Any) -> list[DnsService]:
    slices = [each for each in answer["items"] if each["kind"] == "EndpointSlice"]
    found: list[DnsService] = []
    for each in answer["items"]:
        if each["kind"] != "Service":
            continue
        ports = {port.get("name", "") for port in each["spec"].get("ports") or () if port["port"] == 53}
        if not ports:
            continue
        name = _word(each["metadata"]["name"])
        mine = [one for one in slices if (one["metadata"].get("labels") or {}).get(_SERVICE) == name]
        found.append(
            {
                "name": name,
                "addresses": _cluster_ips(each["spec"]),
                "endpoints": [endpoint for one in mine for endpoint in _endpoints(one, ports)],
            }
        )
    return found


def _cluster_ips(spec: Mapping[str, Any]) -> list[str]:
    # clusterIPs came with dual stack (1.20); a headless service says "None".
    given = spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]
    return [str(ip_address(each)) for each in given if each != "None"]


def _endpoints(one: Mapping[str, Any], names: set[str]) -> list[Endpoint]:
    """The endpoints of a slice, one per address and number; UDP and TCP have the same number as a rule."""
    numbers = sorted({port["port"] for port in one.get("ports") or () if (port.get("name") or "") in names})
    found: list[Endpoint] = []
    for each in one.get("endpoints") or ():
        node = _word(each.get("nodeName") or (each.get("topology") or {}).get(_HOSTNAME, ""))
        ready = (each.get("conditions") or {}).get("ready") is not False
        found += [
            {"to": _end(address, number), "node": node, "ready": ready}
            for address in each["addresses"]
            if one["addressType"] in ("IPv4", "IPv6")
            for number in numbers
        ]
    return found


def _end(address: str, port: int) -> str:
    return endpoint(str(ip_address(address)), int(port))


def _version(end: str) -> int:
    return 6 if end.startswith("[") else 4


def _node(each: Mapping[str, Any]) -> Node:
    said = each.get("status", {}).get("addresses") or ()
    metadata = each["metadata"]
    return {
        "name": _word(metadata["name"]),
        "addresses": [str(ip_address(one["address"])) for one in said if one["type"] in ("InternalIP", "ExternalIP")],
        "hostnames": [
            _word(one["address"]) for one in said if one["type"] in ("Hostname", "InternalDNS", "ExternalDNS")
        ],
        "schedulable": not each.get("spec", {}).get("unschedulable", False),
        "cordoned_by": _word((metadata.get("annotations") or {}).get(CORDONED, "")),
        "version": _word(metadata["resourceVersion"]),
    }


def _pod(each: Mapping[str, Any]) -> Pod:
    status = each.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    waiting = [
        state["waiting"]
        for container in status.get("containerStatuses") or ()
        if "waiting" in (state := container.get("state") or {})
    ]
    deleted = "deletionTimestamp" in each["metadata"]
    ready = conditions.get("Ready", {}).get("status") == "True" and not deleted
    why = "is being deleted" if deleted else ""
    for one in [*waiting, *(c for c in conditions.values() if c["status"] == "False"), {"reason": status.get("phase")}]:
        why = why or ": ".join(_word(one[key]) for key in ("reason", "message") if one.get(key))
    return {
        "name": _word(each["metadata"]["name"]),
        "node": _word(each.get("spec", {}).get("nodeName", "")),
        "ready": ready,
        "why": "" if ready else why,
    }
