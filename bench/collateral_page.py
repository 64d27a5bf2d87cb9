"""What was lost beside an operation, counted, and docs/collateral.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypedDict

#: When it was sent, in seconds, and how many milliseconds later it came back; None: never.
Sample = tuple[float, float | None]
ASKERS = ("node", "pod", "LAN")


class Figure(TypedDict):
    """One stream beside one operation. `silence_ms`: the longest time between two answers."""

    sent: int
    lost: int
    silence_ms: float


#: By who asks, or "flows", and then by protocol.
Figures = dict[str, dict[str, Figure]]


def figures(streams: Mapping[str, Sequence[Sample]], begin: float, end: float) -> dict[str, Figure]:
    """What each stream sent between two moments, lost of that, and how long it was silent."""
    return {protocol: _figure(samples, begin, end) for protocol, samples in streams.items()}


def _figure(samples: Sequence[Sample], begin: float, end: float) -> Figure:
    within = [(sent, took) for sent, took in samples if begin <= sent <= end]
    answers = sorted(sent + took / 1000 for sent, took in within if took is not None)
    gaps = [after - before for before, after in pairwise(answers)]
    lost = sum(took is None for _, took in within)
    return {"sent": len(within), "lost": lost, "silence_ms": round(max(gaps, default=0.0) * 1000)}


def brief(seen: Figures) -> str:
    """One run in one line."""
    return "; ".join(
        f"{who} " + ", ".join(f"{protocol} {each['lost']}/{each['sent']}" for protocol, each in found.items())
        for who, found in seen.items()
    )


def table(found: Mapping[str, Sequence[Figures]]) -> str:
    """Per operation what was lost in a run, from the run that lost least to the one that lost most."""
    heading = "| while this runs | runs | " + " | ".join(f"{who}, UDP / TCP" for who in ASKERS)
    lines = [
        f"{heading} | through, UDP / TCP | longest silence, UDP |",
        "|---|---:|" + "---:|" * (len(ASKERS) + 2),
    ]
    for name, runs in found.items():
        cells = [_lost(runs, who) for who in (*ASKERS, "flows")]
        silence = max(each["udp"]["silence_ms"] for run in runs for each in run.values())
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} | {silence:.0f} ms |")
    return "\n".join(lines) + "\n"


def _lost(runs: Sequence[Figures], who: str) -> str:
    if who not in runs[0]:
        return "-"
    return " / ".join(_span([run[who][protocol]["lost"] for run in runs]) for protocol in ("udp", "tcp"))


def _span(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def page(found: Mapping[str, Sequence[Figures]], where: Mapping[str, str]) -> str:
    """docs/collateral.md."""
    sent = sum(each["sent"] for runs in found.values() for run in runs for who in run.values() for each in who.values())
    return f"""# What a change costs those who are served

    python -m lab up && make collateral        # writes this page; RUNS=5 for five runs of everything

Beside every operation on one node {where["rates"]} are asked
each from the node itself, from a pod on it and from the LAN, of the node's dnsmasq (version.bind, each from a port of
its own, lost after 2 s). A TCP connection and a UDP flow go from the pod through the node to the LAN, {where["flow"]}
each, which have to come back. Counted is what was sent from the start of pyinfra to one second after its end. A run
counts only if nothing was lost in the two seconds before and after, and if the change was proven; this machine had
other work, and {where["repeated"]} were made again. A lost question over UDP stands for 20 ms, one over TCP for 40 ms;
resolvers ask again after one to five seconds.

Measured on {where["date"]}: the lab's containers, Debian 12, {where["machine"]} while it ran,
{sent} questions and messages. Lost in a run, from the run that lost least to the one that lost most; "-": pods are what
the repair is for, and are not answered before it, nor after it was undone.

{table(found)}
"Through" is what a restart of dnsmasq, other rules and forgotten DNS flows must not touch: pods' own connections.

Not measured here: a restart of kube-proxy or of the kubelet, and IPVS, which need the Kubernetes lab (there, a restart
of kube-proxy in IPVS mode lost no query at 10 a second); draining a node, which is off by default and moves pods.
"""
