"""Whether a wave is proven before its nodes take their changes back: `undo_after` against an estimate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil

from operations.wave import Wave
from probes.fleet import side_by_side
from probes.probe import Probe

#: Seconds of a change whose timer the nodes after it in their wave keep waiting: dnsmasq is watched for five of them,
#: the rest is its restart, its test and the way there. A restart of kube-proxy takes longer.
CHANGE = 8
#: Seconds of a proof beside its questions: the node is read anew, over SSH.
LOOK = 3


def asking(probes: Sequence[Probe], rate: int, together: int, own: Collection[str]) -> float:
    """
    Seconds over which a node's questions are spread in its proof.

    + probes: the questions; rate: `probe_rate`; own: its own addresses
    + together: nodes that ask at once
    """
    return sum(probe["tries"] for probe in probes) / side_by_side(probes, rate, together, own)


def waiting(nodes: int, together: int, proofs: Sequence[float]) -> float:
    """
    Seconds from a node's change to the end of its proof, for the one of the wave that waits longest.

    + nodes: of the wave; together: as many of them are changed, and proven, at once
    + proofs: seconds of a proof, for each node that is changed

    pyinfra has changed all of them before it proves the first one, and comes to them in the same order both times: a
    node waits for the change of those after it, and for the proof of those before it.
    """
    turns = ceil(nodes / together)
    return (turns - 1) * max(CHANGE, sum(proofs) / len(proofs)) + max(proofs)


def too_slow(wave: Wave, together: int, undo_after: int, questions: Sequence[float], deadline: float) -> str:
    """
    Why the wave could not be proven in time, in a sentence; "" where nothing speaks against it.

    + together: nodes at once (pyinfra's --parallel)
    + questions: seconds over which each changed node's questions are spread
    + deadline: seconds that an answer may take: `probe_deadline`

    A wave that passes may be late all the same: then it goes back.
    """
    nodes = len(wave.nodes)
    seconds = waiting(nodes, together, [LOOK + each for each in questions]) + deadline
    if seconds <= undo_after:
        return ""
    return (
        f"{wave}: of its {nodes} nodes, {min(together, nodes)} at once, some would wait about {ceil(seconds)} s for"
        f" their proof, and take their changes back after {undo_after} s (undo_after): raise that, or have fewer nodes"
        " in a wave (wave_nodes, canary_nodes), more at once (--parallel) or fewer questions (probe_tries)"
    )
