"""What a node looks like: who is answered there, its files, rules and settings, and what of ours is on it.

The questions are the lab's own (dig), and the looks enter the node past sshd: nothing of what is tested takes part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab.api import Lab
from lab.places import Node, Place

_SCRIPT = Path(__file__).with_name("look.sh")
#: Questions, one of which must be answered: a busy machine may lose one.
TRIES = 3


@dataclass(frozen=True)
class Look:
    """A node at one moment.

    + served: "LAN udp" and so on: whether that one was answered
    + state: path, rules' command, setting: what it is. What of the node a run may change
    + ours: what of dnsmend is there: kind, name and value of each line of look.sh
    """

    served: Mapping[str, bool]
    state: Mapping[str, str]
    ours: tuple[tuple[str, str, str], ...] = field(default=())

    def having(self, *kinds: str) -> dict[str, str]:
        """What of ours is there of these kinds, by name."""
        return {name: value for kind, name, value in self.ours if kind in kinds}


_STATE = ("file", "rules", "setting")


def look(lab: Lab, node: Node, unserved: Collection[str] = ()) -> Look:
    """Look at a node. Raises LabError.

    + unserved: those who are not answered as far as is known: they are asked once, and not again
    """
    state: dict[str, str] = {}
    sums: dict[str, str] = {}
    ours: list[tuple[str, str, str]] = []
    for kind, name, value in _lines(node):
        if kind == "sum":
            # The last one counts: without the run's id.
            sums[name] = value
        elif kind in _STATE:
            state[f"{kind} {name}"] = value
        else:
            ours.append((kind, name, value))
    for name, value in sums.items():
        state[f"file {name}"] = f"{state.get(f'file {name}', '')} {value}"
    return Look(served(lab, node, unserved), state, tuple(ours))


def activity(node: Node) -> Look:
    """Only what tells whether the node is at rest. Raises LabError."""
    return Look({}, {}, tuple(_lines(node, "rest")))


def _lines(node: Node, what: str = "all") -> Iterator[tuple[str, str, str]]:
    for line in node.run(["sh", "-c", _SCRIPT.read_text(encoding="utf-8"), "look", what]).stdout.splitlines():
        kind, name, value = (*line.split("\t", 2), "", "")[:3]
        yield kind, name, value


def served(lab: Lab, node: Node, unserved: Collection[str] = ()) -> dict[str, bool]:
    """Who is answered at the node's VIP, over UDP and TCP: LAN, node and each of its pods."""
    places: dict[str, Place] = {"LAN": lab.bare_metal, "node": node}
    places |= {f"pod {pod.name}": node.pod(pod.name) for pod in node.plan.pods}
    asked = [
        (f"{name} {'tcp' if tcp else 'udp'}", place, tcp) for name, place in places.items() for tcp in (False, True)
    ]

    def answered(name: str, place: Place, tcp: bool) -> bool:
        return any(place.ask(node.plan.vip, tcp=tcp).good for _ in range(1 if name in unserved else TRIES))

    with ThreadPoolExecutor(len(asked)) as pool:
        found = pool.map(lambda each: answered(*each), asked)
        return {name: good for (name, _, _), good in zip(asked, found, strict=True)}
