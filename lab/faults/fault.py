"""What a fault is, and how one sees that it is live."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lab.host import LabError
from lab.kubernetes import health
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.places import Node
from lab.questions import Answer
from lab.state import State

Mode = Literal["wildcard", "bind-interfaces", "bind-dynamic"]

MODES: tuple[Mode, ...] = ("wildcard", "bind-interfaces", "bind-dynamic")


@dataclass(frozen=True)
class Fault:
    """Something that can be broken on a node.

    `apply` breaks it in one mode (None where `modes` is empty, as the fault is not about how dnsmasq binds), makes
    sure that it is live, and returns what was seen. The first of `modes` is the default; `unaffected` says for the
    other ones why they cannot be had.
    """

    name: str
    title: str
    apply: Callable[[Node, Mode | None], str]
    modes: tuple[Mode, ...] = ()
    unaffected: str = ""


@dataclass(frozen=True)
class ClusterFault:
    """Something that can be broken on a node of a Kubernetes lab; `apply` as in `Fault`, given the lab's record too."""

    name: str
    title: str
    apply: Callable[[State, Node], str]


def expect_lost(node: Node, least: int, most: int, *, queries: int) -> str:
    """Ask the cluster's DNS service from the pod `client` over UDP; returns a sentence about how many were lost.

    Raises LabError if that is not between `least` and `most`.
    """
    lost = health.lost(node.pod("client"), CLUSTER.dns_service, SAMPLE, queries=queries)
    if not least <= lost <= most:
        raise LabError(f"the fault is not live: pod -> {CLUSTER.dns_service} loses {lost} of {queries} questions")
    return f"pod -> {CLUSTER.dns_service} loses {lost} of {queries} questions"


def pod_answers(node: Node) -> tuple[Answer, Answer]:
    """How the pod `client` fares at the node's VIP: UDP, TCP."""
    client = node.pod("client")
    return client.ask(node.plan.vip), client.ask(node.plan.vip, tcp=True)


def expect_pods(node: Node, udp: str, tcp: str, *, patience: float = 5.0) -> str:
    """Wait until the pod's questions end as given (`timeout`, `closed`, ..., or `NOERROR`); returns a sentence.

    With endpoint routes packets take another way, so there any loss will do. Raises LabError if it is not so.
    """
    anything = node.read("/etc/cilium/routing").strip() == "endpoint-routes"
    deadline = time.monotonic() + patience
    while True:
        answers = pod_answers(node)
        seen = tuple(str(answer) for answer in answers)
        if seen == (udp, tcp) or (anything and not all(answer.good for answer in answers)):
            return f"pod -> {node.plan.vip}: UDP {seen[0]}, TCP {seen[1]}"
        if time.monotonic() > deadline:
            raise LabError(
                f"the fault is not live: pod -> {node.plan.vip} gives UDP {seen[0]}, TCP {seen[1]}, not {udp}, {tcp}"
            )
        time.sleep(0.1)
