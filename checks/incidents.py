"""From findings to incidents: what has a reason among the findings is a consequence, what has none is a root cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from checks.causes import CAUSES, FOLLOWS, Cause
from checks.finding import Finding, Status
from facts.snapshot import Snapshot

_BY_CHECK = {cause.check: cause for cause in CAUSES}
_ORDER = {cause.check: place for place, cause in enumerate(CAUSES)}
#: An address or a word in a sentence; a full stop or comma after it is none of it.
_WORD = re.compile(r"[\w.:/@*-]*[\w*]")
#: What differs from node to node whatever is wrong: a count, and the name that a pod's link got on the host.
_OWN_WORD = re.compile(r"\d+(\.\d+)?|(lxc|veth|cali)[0-9a-f]{5,}")


@dataclass(frozen=True)
class Incident:
    """One root cause, on one node or, worded alike, on several, and the findings that follow from it.

    + symptom: no root cause after all: it only says that something is lost
    """

    cause: Cause
    roots: list[Finding]
    consequences: list[Finding] = field(default_factory=list)
    symptom: bool = False

    @property
    def nodes(self) -> list[str]:
        """Those that have the cause."""
        return sorted({root["node"] for root in self.roots})

    @cached_property
    def wrong(self) -> dict[str, list[Finding]]:
        """The findings that may spoil questions, by node: the roots, and the consequences that fail."""
        found: dict[str, list[Finding]] = {}
        for one in (*self.roots, *(each for each in self.consequences if each["status"] == Status.FAIL)):
            found.setdefault(one["node"], []).append(one)
        return found

    @property
    def fails(self) -> bool:
        """Whether it is an incident even while nothing is lost."""
        wrong = (one for one in (*self.roots, *self.consequences) if one["status"] == Status.FAIL)
        return any(_BY_CHECK[one["check"]].alone for one in wrong)

    @property
    def certain(self) -> bool:
        """Whether the findings prove what spoils questions."""
        return self.cause.certain and not self.symptom and all(root["status"] == Status.FAIL for root in self.roots)


def incidents(findings: Sequence[Finding], fleet: Mapping[str, Snapshot | None]) -> list[Incident]:
    """What the findings say, in the order of `causes.CAUSES`; those that are only latent among them.

    A failing finding is a root cause unless another finding is its reason. A warning is one as such a reason, and where
    the table says that it may be one.
    """
    wrong = [one for one in findings if one["status"] in (Status.FAIL, Status.WARN) and one["check"] in _BY_CHECK]
    known = {name: own(name, fleet) for name in {one["node"] for one in wrong}}
    reasons = _reasons(wrong, known)
    roots = [_roots(place, reasons) for place in range(len(wrong))]
    leading = {root for place, found in enumerate(roots) for root in found - {place}}
    found: dict[tuple[str, str], Incident] = {}
    members: dict[int, Incident] = {}
    wordings: dict[tuple[str, str], str] = {}
    for place, one in enumerate(wrong):
        cause = _BY_CHECK[one["check"]]
        if roots[place] == {place} and (one["status"] == Status.FAIL or place in leading or cause.warns):
            # A check that fails twice on one node (over UDP and over TCP, say) fails there for one reason.
            wording = wordings.setdefault((one["check"], one["node"]), _wording(one, known[one["node"]]))
            fresh = Incident(cause, [], symptom=cause.symptom and not one["operation"])
            members[place] = found.setdefault((one["check"], wording), fresh)
            members[place].roots.append(one)
    for place, one in enumerate(wrong):
        its = {id(members[root]): members[root] for root in sorted(roots[place] - {place})}
        for incident in its.values():
            incident.consequences.append(one)
    return sorted(found.values(), key=lambda incident: _ORDER[incident.cause.check])


def own(name: str, fleet: Mapping[str, Snapshot | None]) -> frozenset[str]:
    """The addresses of a node and of its pods, without those that every node has (a service's on kube-ipvs0, say)."""
    read = fleet.get(name)
    if read is None:
        return frozenset()
    interfaces = [
        *read["interfaces"]["value"],
        *(interface for pod in read["pods"]["value"] for interface in pod["interfaces"]),
    ]
    return frozenset(
        address["address"]
        for interface in interfaces
        if interface["name"] not in ("lo", "kube-ipvs0")
        for address in interface["addresses"]
    )


def names(sentence: str, addresses: Iterable[str]) -> set[str]:
    """Which of the addresses the sentence names, with or without a port."""
    return _words(sentence) & set(addresses)


def _words(sentence: str) -> set[str]:
    return {word for each in _WORD.findall(sentence) for word in (each, each.rpartition(":")[0])}


def _reasons(wrong: Sequence[Finding], known: Mapping[str, frozenset[str]]) -> list[list[int]]:
    """For each finding the places of those that are its reasons. An index spares comparing all with all."""
    of_check: dict[str, list[int]] = {}
    of_node: dict[tuple[str, str], list[int]] = {}
    for place, one in enumerate(wrong):
        of_check.setdefault(one["check"], []).append(place)
        of_node.setdefault((one["check"], one["node"]), []).append(place)
    found: list[list[int]] = []
    for one in wrong:
        said = _words(one["sentence"])
        mine: list[int] = []
        for rule in FOLLOWS:
            if rule.effect != one["check"] or rule.operation not in (None, one["operation"]):
                continue
            here = of_node.get((rule.cause, one["node"]), [])
            there = [place for place in of_check.get(rule.cause, []) if said & known[wrong[place]["node"]]]
            mine += [
                place
                for place in (here if rule.where == "here" else set(there) - set(here))
                if wrong[place]["status"] == Status.FAIL or (rule.warns and one["status"] == Status.FAIL)
            ]
        found.append(mine)
    return found


def _roots(place: int, reasons: Sequence[Sequence[int]]) -> set[int]:
    found: set[int] = set()
    for reason in reasons[place]:
        found |= _roots(reason, reasons)
    return found or {place}


def _wording(finding: Finding, own: frozenset[str]) -> str:
    """The sentence without what differs from node to node: the node's name, its addresses, and counts."""

    def common(match: re.Match[str]) -> str:
        word = match[0]
        address, colon, _ = word.partition(":")
        alone = word == finding["node"] or word in own or bool(colon and address in own)
        return "*" if alone or _OWN_WORD.fullmatch(word) else word

    return _WORD.sub(common, finding["sentence"])
