"""What an inventory of somebody else's says: hosts, groups, variables, and what was not understood."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Var(NamedTuple):
    """A variable's value, and the file and line that set it: `hosts.yaml:12`."""

    value: Any
    place: str


class Note(NamedTuple):
    """What was not taken over. Never a value: it may be a secret."""

    place: str
    key: str
    why: str


@dataclass
class Listing:
    """
    An inventory as it was read.

    + hosts: each host's variables, with those of its groups, in the order of the file
    + groups: each group's hosts, with those of its children
    """

    hosts: dict[str, dict[str, Var]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def sentences(notes: Iterable[Note]) -> list[str]:
    """One line per key and reason: `hosts.yaml:12: foo: not known to dnsmend, not used (and 2 more places)`."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for note in notes:
        found = places.setdefault((note.place.rpartition(":")[0] or note.place, note.key, note.why), [])
        if note.place not in found:
            found.append(note.place)
    return [
        ": ".join(filter(None, (found[0], key, why))) + (f" (and {len(found) - 1} more lines)" if found[1:] else "")
        for (_, key, why), found in places.items()
    ]
