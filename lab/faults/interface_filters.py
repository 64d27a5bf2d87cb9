"""dnsmasq's own filters keep pods out: the family of the incident.

Which mode loses what is measured, with dnsmasq 2.90: with bind-interfaces there is no arrival check for IPv4, so most
filters do not touch a question to the VIP there (`OPT_NOWILD` in forward.c, `check_dns_listeners` in dnsmasq.c).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.faults import dnsmasq_files
from lab.faults.fault import Fault, Mode, expect_pods
from lab.places import Node

_K8S = "/etc/dnsmasq.d/k8s.conf"

# The offending line is line 14.
_K8S_TEXT = """\
# Kubernetes node: what the node's resolver must not serve.
# Rolled out with the node image, one copy on every node.

# Short answers for names that move with the cluster.
local-ttl=5
neg-ttl=30

# Containers and virtual machines have resolvers of their own.
except-interface=virbr*
except-interface=veth*

# Overlay and CNI links
except-interface=vxlan*
except-interface=cilium_*

# Nothing of ours is asked in reverse.
bogus-priv
"""

_LIST_TEXT = """\
# Kubernetes node: links that the node's resolver stays away from.
except-interface=docker0,cilium_*,lo

bogus-priv
"""

_TWICE_TEXT = """\
# CNI links, from the image of the previous release.
# except-interface=docker0
except-interface=cilium_host
"""

_OVERRIDE_HOST_ONLY = """\
[Service]
ExecStart=
ExecStart=/usr/sbin/dnsmasq -x /run/dnsmasq/dnsmasq.pid -u dnsmasq \\
    -7 /etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new --local-service=host
"""

# How UDP and TCP end for a pod at the VIP.
_LOST = ("timeout", "closed")
_TCP_CLOSED = ("NOERROR", "closed")
_REFUSED = ("refused", "refused")

_NO_ARRIVAL_CHECK = "with bind-interfaces dnsmasq does not look at the ingress interface of IPv4"


@dataclass(frozen=True)
class _Filter:
    """One configuration; `loss` gives for each mode that is affected how UDP and TCP end.

    `VIP` in `lines` is replaced. `stub` is off where dnsmasq needs port 53 of every address in each mode.
    """

    name: str
    title: str
    loss: Mapping[Mode, tuple[str, str]]
    lines: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    defaults: str = ""
    override: str = ""
    unaffected: str = _NO_ARRIVAL_CHECK
    stub: bool = True


_BY_ARRIVAL: Mapping[Mode, tuple[str, str]] = {"bind-dynamic": _LOST, "wildcard": _LOST}
_BY_RECORD: Mapping[Mode, tuple[str, str]] = {"bind-dynamic": _TCP_CLOSED, "wildcard": _TCP_CLOSED}
_EVERYWHERE: Mapping[Mode, tuple[str, str]] = {"bind-dynamic": _LOST, "wildcard": _LOST, "bind-interfaces": _LOST}

_FILTERS = (
    _Filter(
        "dnsmasq-except-cilium",
        "the incident: except-interface=cilium_* in /etc/dnsmasq.d/k8s.conf, line 14",
        _BY_ARRIVAL,
        files={_K8S: _K8S_TEXT},
    ),
    _Filter(
        "dnsmasq-except-cilium-cmdline",
        'the same from the command line: DNSMASQ_EXCEPT="cilium_*" in /etc/default/dnsmasq',
        _BY_ARRIVAL,
        defaults='DNSMASQ_EXCEPT="cilium_*"\n',
    ),
    _Filter(
        "dnsmasq-except-cilium-opts",
        'the same from the command line: DNSMASQ_OPTS="--except-interface=cilium_*" in /etc/default/dnsmasq',
        _BY_ARRIVAL,
        defaults='DNSMASQ_OPTS="--except-interface=cilium_*"\n',
    ),
    _Filter(
        "dnsmasq-except-list",
        "except-interface=docker0,cilium_*,lo: one line, a part of which is right",
        _BY_ARRIVAL,
        files={_K8S: _LIST_TEXT},
    ),
    _Filter(
        "dnsmasq-except-twice",
        "two files except cilium links: k8s.conf and 30-cni.conf",
        _BY_ARRIVAL,
        files={_K8S: _K8S_TEXT, "/etc/dnsmasq.d/30-cni.conf": _TWICE_TEXT},
    ),
    _Filter(
        "dnsmasq-local-service",
        "no interface line at all: Debian's --local-service rejects pods, as they are on no subnet of the node",
        _EVERYWHERE,
    ),
    _Filter(
        "dnsmasq-local-service-host",
        "--local-service=host in the unit: only the node itself is served",
        {"bind-interfaces": _REFUSED, "wildcard": _REFUSED},
        override=_OVERRIDE_HOST_ONLY,
        unaffected="dnsmasq does not start with local-service=host and bind-dynamic",
    ),
    _Filter(
        "dnsmasq-interface-bond0",
        "interface=bond0 only: pods arrive on cilium_host, which is not named",
        _BY_ARRIVAL,
        lines=("", "interface=bond0"),
    ),
    _Filter(
        "dnsmasq-listen-vip",
        "listen-address=VIP only: UDP is answered, TCP is closed",
        _BY_RECORD,
        lines=("", "listen-address=VIP"),
    ),
    _Filter(
        "dnsmasq-interface-listen",
        "interface=bond0 and listen-address=VIP: UDP is answered, TCP is closed",
        _BY_RECORD,
        lines=("", "interface=bond0", "listen-address=VIP"),
    ),
    _Filter(
        "dnsmasq-listen-any",
        "listen-address=0.0.0.0: no address of the node equals it; with bind-interfaces only UDP is lost",
        {"bind-dynamic": _LOST, "wildcard": _LOST, "bind-interfaces": ("timeout", "NOERROR")},
        lines=("", "listen-address=0.0.0.0"),
        stub=False,
    ),
)


def _apply(each: _Filter) -> Callable[[Node, Mode | None], str]:
    def apply(node: Node, mode: Mode | None) -> str:
        binding: Mode = next(iter(each.loss)) if mode is None else mode
        dnsmasq_files.configure(
            node,
            binding,
            lines=tuple(line.replace("VIP", node.plan.vip) for line in each.lines),
            files=each.files,
            defaults=each.defaults,
            override=each.override,
            stub=each.stub,
        )
        dnsmasq_files.restart(node)
        return f"{binding}, {expect_pods(node, *each.loss[binding])}"

    return apply


FAULTS = tuple(Fault(each.name, each.title, _apply(each), tuple(each.loss), each.unaffected) for each in _FILTERS)
