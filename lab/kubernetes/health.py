"""Whether a cluster's node does what it should: the first question that is not answered, in one sentence."""

from __future__ import annotations

import re

from lab.kubernetes import kube_proxy
from lab.kubernetes.plan import CLUSTER, SAMPLE
from lab.places import Node, Place
from lab.plan import RESOLVERS

# In one go: on an emulated machine each command costs.
_KUBE_PROXY = f"""
systemctl is-active kube-proxy.service
echo $(( $(date +%s) - $({kube_proxy.LAST_SYNC}) ))
ipvsadm -Sn
"""

# Twice its period, and what an emulated node may be late.
_RECENT_SECONDS = 75

_REAL_SERVER = re.compile(r"^-a -([tu]) (\S+) -r (\S+):\d+ ", re.MULTILINE)


def trouble(node: Node, resolvers: tuple[str, ...]) -> str:
    """One sentence about what does not work on `node`, with `resolvers` behind the DNS service; empty if all does."""
    state, age, table = node.run(["bash", "-c", _KUBE_PROXY]).stdout.split("\n", 2)
    if state != "active":
        return f"{node.name}: kube-proxy.service is {state}"
    if int(age) > _RECENT_SECONDS:
        return f"{node.name}: kube-proxy has not synced lately"
    for protocol, letter in (("UDP", "u"), ("TCP", "t")):
        service = f"{CLUSTER.dns_service}:53"
        known = {server for kind, name, server in _REAL_SERVER.findall(table) if (kind, name) == (letter, service)}
        if known != set(resolvers):
            return f"{node.name}: IPVS has {sorted(known)} behind {service} over {protocol}, not {sorted(resolvers)}"
    vip = node.plan.vip
    inside, outside = f"@{CLUSTER.dns_service} {SAMPLE}", f"@{CLUSTER.dns_service} {RESOLVERS[-1].sample}"
    own = [f"@{vip} {RESOLVERS[-1].sample}"]
    for place, names in (
        (node.pod("client"), [inside, outside, *own]),
        (node, [inside, *own, *(f"@127.0.0.53 {each.sample}" for each in RESOLVERS)]),
    ):
        questions = [f"{transport} {each}" for each in names for transport in ("+notcp", "+tcp")]
        if text := _unanswered(place, questions):
            return text
    return ""


def _unanswered(place: Place, questions: list[str]) -> str:
    """One sentence about those of `questions` (lines for dig -f) that bring no answer; empty if all do."""
    output = _dig(place, "+tries=1 +time=2 +noall +comments", questions)
    answered = output.count("status: NOERROR")
    if answered == len(questions):
        return ""
    said = [line.lstrip(";: ") for line in output.splitlines() if line.startswith(";;") and "WARNING" not in line]
    return f"{place.name}: {answered} of {len(questions)} questions are answered ({'; '.join(said[:3])})"


def lost(place: Place, server: str, name: str, *, queries: int, tcp: bool = False) -> int:
    """Ask `queries` times, each from a port of its own with one second to wait; returns how many are not answered."""
    questions = [f"{'+tcp' if tcp else '+notcp'} @{server} {name}"] * queries
    return queries - _dig(place, "+tries=1 +time=1 +noall +comments", questions).count("status: NOERROR")


def _dig(place: Place, options: str, questions: list[str]) -> str:
    # One dig(1) asks them all: on an emulated machine the start of a program costs more than a question.
    done = place.run(
        ["dig", *options.split(), "-f", "-"],
        stdin="".join(f"{each}\n" for each in questions),
        check=False,
        timeout=60.0 + 3.0 * len(questions),
    )
    return done.stdout
