"""Pods that a NetworkPolicy keeps from an address, as far as questions tell.

A default-deny policy that allows the cluster's DNS alone is usual, and a pod under it that stands in for one which asks
dnsmasq loses everything there, as it should. So is one without DNS, for a pod that needs no names. What drops packets
on the side of dnsmasq, or of the cluster's DNS, drops those of other pods too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from probes.count import lost, unknown
from probes.probe import HOST, Result
from probes.questions import own_name


def denied(results: Sequence[Result], asks: Mapping[str, Collection[str]]) -> list[Result]:
    """The results of pods that lost all that they asked of an address, where another pod of the node is answered.

    That is dnsmasq's own name where an address is asked for it, and everything where it is not.

    + asks: by address the pods' addresses that ask it by themselves: what these lose is a fault, whosever it is
    """
    by_pod: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        asked = result["probe"]
        # A policy for port 53 need not say anything about echo requests.
        if asked["source"]["name"] != HOST["name"] and asked["protocol"] != "icmp":
            by_pod.setdefault((asked["source"]["address"], asked["destination"]), []).append(result)
    served = {destination for (_, destination), its in by_pod.items() if _answered(its)}
    found: list[Result] = []
    for (source, destination), its in by_pod.items():
        if destination in served and source not in asks.get(destination, ()) and all(map(_lost_whole, its)):
            found += its
    return found


def _answered(results: Sequence[Result]) -> bool:
    # Other names need an upstream as well, which may be what does not answer.
    own = [result for result in results if own_name(result["probe"])] or results
    return not any(lost(result) + unknown(result) for result in own)


def _lost_whole(result: Result) -> bool:
    return lost(result) == len(result["tries"])
