"""What the cluster's API says of the DNS services' endpoints: read once per run, for the checks and the repair."""

from __future__ import annotations

from typing import NamedTuple

from pyinfra.api.state import State

from deploys import policy as policies
from deploys.once import once
from facts import cluster, snapshot
from facts.kubectl import KubectlError
from models.kube_services import Endpoints


class Seen(NamedTuple):
    """The ready endpoints by DNS service address, and what could not be looked at, in a sentence; "" for nothing."""

    endpoints: Endpoints
    unseen: str


@once
def of(state: State) -> Seen:
    """The endpoints, as the policy of the first host reaches the API. Never raises: unknown is a sentence."""
    host = snapshot.active(state.inventory)[0]
    policy = policies.of(host)
    kubectl = policies.cluster(host)
    if kubectl is None:
        return Seen({}, "no kubectl (group_data/all.py: kubectl): EndpointSlices were not compared")
    try:
        endpoints = cluster.ready(cluster.dns_services(kubectl, policy.dns_namespace))
    except KubectlError as error:
        return Seen({}, f"EndpointSlices were not compared: {error}")
    if not endpoints:
        return Seen({}, f"EndpointSlices were not compared: no service in {policy.dns_namespace} listens on port 53")
    return Seen(endpoints, "")
