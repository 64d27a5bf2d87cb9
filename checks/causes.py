"""What causes what: per check what a failing finding of it breaks, and which other findings it is the reason of."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from checks.diagnosis import STAGES, Stage

#: Whose questions a cause on a node spoils: those of its own pods and processes (or only those of them that go to a
#: service's address, or to a pod that the finding names), those that its dnsmasq (or any resolver on it) is asked, or
#: all that pass through it.
Reach = Literal[
    "asked from here", "asked of services from here", "asked of its dnsmasq", "asked of its resolvers", "passing here"
]

#: Where a consequence shows: on the cause's node, or on a node whose finding names an address of the cause's node.
Where = Literal["here", "there"]

_SERVICE: tuple[Stage, ...] = ("pod to service", "host to service")
_DNSMASQ: tuple[Stage, ...] = ("pod to service", "endpoint to upstream", "host to stub", "host to dnsmasq")
#: What goes round holds the processes of who hands it on: such a resolver may not even answer what it knows itself.
_CIRCLE: tuple[Stage, ...] = (*_DNSMASQ, "dnsmasq to upstream")
_PODS: tuple[Stage, ...] = ("pod to service", "pod to endpoint", "endpoint to upstream")


class Cause(NamedTuple):
    """What a finding that fails means for questions.

    + stages: the hops that it can spoil, with `reach`; () for a cause that is felt through others only
    + alone: it is an incident even while nothing is lost; one that is not needs a loss that nothing else explains
    + certain: that the finding fails proves that it spoils its hops; otherwise it only may
    + risk: what it will do, for as long as nothing is lost
    + symptom: a finding without an operation only says that something is lost, and not why
    + warns: a warning may be the reason too, of a loss that nothing else explains
    """

    check: str
    reach: Reach
    stages: tuple[Stage, ...]
    alone: bool
    certain: bool
    risk: str = ""
    symptom: bool = False
    warns: bool = False


class Follows(NamedTuple):
    """One check's finding as the consequence of another's.

    + operation: only a finding with this operation, None for any; "" is one that only says that something is lost
    + warns: a mere warning of the cause is the reason as well
    """

    effect: str
    cause: str
    because: str
    where: Where = "here"
    operation: str | None = None
    warns: bool = False


_NEXT_MOVE = "the node keeps the rules of before: its queries are lost from the next time that a CoreDNS pod moves"

#: In the order in which they are reported where they spoil equally much.
CAUSES: tuple[Cause, ...] = (
    Cause("CONNTRACK-001", "passing here", STAGES, True, True, "new flows are dropped as soon as there is no room"),
    Cause("FIREWALL-002", "passing here", _PODS, True, True, "what pods ask of others is rejected"),
    Cause("FIREWALL-001", "passing here", _PODS, True, True, "what pods ask of others is dropped", warns=True),
    Cause("IPTABLES-006", "passing here", STAGES, True, True, "packets that reach the chain are dropped"),
    Cause("KERNEL-001", "asked from here", _PODS, True, True, "what its pods send is dropped", warns=True),
    Cause(
        "KERNEL-002",
        "asked of services from here",
        _SERVICE,
        True,
        True,
        "answers of pods on the same bridge are thrown away",
    ),
    Cause(
        "KERNEL-003",
        "passing here",
        STAGES,
        True,
        False,
        "packets to neighbours not in the table are dropped",
        warns=True,
    ),
    Cause("DNSMASQ-002", "asked of its dnsmasq", (), True, True, "dnsmasq does not come back from its next restart"),
    Cause("DNSMASQ-003", "asked of its dnsmasq", _DNSMASQ, True, True, "nobody asked while it was down"),
    Cause(
        "DNSMASQ-001", "asked of its dnsmasq", _DNSMASQ, True, True, "pods that ask it are not answered", symptom=True
    ),
    Cause("DNSMASQ-004", "asked of its dnsmasq", _DNSMASQ, False, False),
    Cause(
        "RESOLVER-001",
        "asked of its resolvers",
        _CIRCLE,
        True,
        True,
        "names that nobody in the circle knows get no answer",
    ),
    Cause("KUBEPROXY-001", "asked of services from here", _SERVICE, True, False, _NEXT_MOVE),
    Cause("KUBEPROXY-002", "asked of services from here", _SERVICE, True, False, _NEXT_MOVE),
    Cause(
        "IPTABLES-003",
        "asked of services from here",
        _SERVICE,
        True,
        True,
        "questions that the rule takes go to nobody",
    ),
    Cause("IPTABLES-002", "asked of services from here", _SERVICE, False, False),
    Cause("IPTABLES-001", "asked of services from here", _SERVICE, False, False),
    Cause("IPTABLES-004", "asked from here", (), False, False),
    Cause(
        "IPVS-005",
        "asked of services from here",
        _SERVICE,
        True,
        True,
        "the service is out of reach for this node's pods",
    ),
    Cause(
        "IPVS-002",
        "asked of services from here",
        _SERVICE,
        True,
        True,
        "the service is out of reach for this node's pods",
    ),
    Cause(
        "IPVS-004",
        "asked from here",
        (*_SERVICE, "pod to endpoint"),
        True,
        True,
        "questions that fall to it are lost",
        symptom=True,
    ),
    Cause(
        "IPVS-003", "asked of services from here", _SERVICE, True, False, "the other real servers carry the whole load"
    ),
    Cause("IPVS-006", "asked from here", (), True, True, "clients that keep their source port are not answered"),
    Cause("CONNTRACK-002", "asked from here", (), True, True, "clients that keep their source port are not answered"),
    Cause("IPVS-001", "asked of services from here", _SERVICE, False, False, symptom=True),
    Cause(
        "CONNTRACK-003",
        "asked of services from here",
        _SERVICE,
        True,
        False,
        "who asks for A and AAAA at once waits for one",
    ),
    Cause("KERNEL-004", "passing here", _PODS, False, False, warns=True),
    Cause("NETWORKD-001", "passing here", _PODS, False, False, warns=True),
    Cause("IPTABLES-005", "passing here", _PODS, False, False),
)

_STALE = "the rules of an earlier life of the node are in the backend that nobody cleans up"
_FULL = "with no room in the table the first packet of a flow is dropped"
_NO_NEIGHBOUR = "a packet to a neighbour for which the table has no room is dropped"
_DROPPED = "what the node drops does not reach dnsmasq, nor a pod"
_NOBODY_CLEANS = "kube-proxy takes away what is stale within seconds, where it runs and its sync succeeds"

FOLLOWS: tuple[Follows, ...] = (
    Follows("DNSMASQ-003", "DNSMASQ-002", "a dnsmasq that cannot read its configuration does not start"),
    Follows("DNSMASQ-001", "DNSMASQ-003", "a dnsmasq that does not run answers nobody"),
    Follows("DNSMASQ-001", "DNSMASQ-004", "dnsmasq does what its older files say", operation="", warns=True),
    Follows("DNSMASQ-001", "CONNTRACK-001", _FULL, operation=""),
    Follows("DNSMASQ-001", "KERNEL-003", _NO_NEIGHBOUR, operation=""),
    Follows("IPVS-001", "IPTABLES-003", "a DNAT takes the questions before IPVS counts them", warns=True),
    Follows("IPVS-001", "IPTABLES-002", "live rules of the other backend come before IPVS"),
    Follows("IPVS-001", "CONNTRACK-001", _FULL),
    Follows("CONNTRACK-002", "IPTABLES-003", "conntrack remembers where the stale rule has sent a flow"),
    Follows("CONNTRACK-002", "IPVS-004", "conntrack remembers the real server that has gone"),
    Follows("CONNTRACK-002", "IPVS-006", "IPVS keeps the flow, and conntrack remembers it"),
    Follows("CONNTRACK-002", "KUBEPROXY-001", "kube-proxy forgets the flows of a pod that goes, if it runs"),
    Follows("CONNTRACK-002", "KUBEPROXY-002", "kube-proxy forgets the flows of a pod that goes, if its sync succeeds"),
    Follows("IPTABLES-001", "IPTABLES-003", _STALE),
    Follows("IPTABLES-002", "IPTABLES-003", _STALE),
    Follows("IPTABLES-004", "IPTABLES-003", _STALE),
    Follows("IPTABLES-002", "IPTABLES-001", "who works on another backend leaves rules there"),
    Follows("IPTABLES-004", "IPTABLES-001", "who works on another backend leaves hints there"),
    Follows("IPTABLES-003", "KUBEPROXY-001", _NOBODY_CLEANS, operation="kube_proxy.restart"),
    Follows("IPTABLES-003", "KUBEPROXY-002", _NOBODY_CLEANS, operation="kube_proxy.restart"),
    Follows("KUBEPROXY-002", "KUBEPROXY-001", "what does not run does not sync"),
    *(
        Follows("KUBEPROXY-002", full, "with no room in the table it does not reach the API server")
        for full in ("CONNTRACK-001", "KERNEL-003")
    ),
    *(
        Follows(f"IPVS-00{number}", proxy, _NOBODY_CLEANS, operation="ipvs.resync")
        for number in (2, 3, 4, 5)
        for proxy in ("KUBEPROXY-001", "KUBEPROXY-002")
    ),
    Follows("IPVS-003", "IPVS-004", "the kube-proxy that left the dead real server has not written the new one"),
    Follows("FIREWALL-001", "FIREWALL-002", "firewalld's chains are what rejects it"),
    Follows("DNSMASQ-001", "KERNEL-001", _DROPPED, operation="", warns=True),
    Follows("DNSMASQ-001", "IPTABLES-006", _DROPPED, operation=""),
    *(
        Follows("IPVS-004", cause, reason, where=where)
        for cause, reason in (
            ("CONNTRACK-001", _FULL),
            ("KERNEL-003", _NO_NEIGHBOUR),
            ("FIREWALL-001", _DROPPED),
            ("FIREWALL-002", _DROPPED),
            ("IPTABLES-006", _DROPPED),
        )
        for where in get_args(Where)
    ),
)
