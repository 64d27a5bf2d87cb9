"""The fleet at a glance: node by stage of a query's way, and what no verdict explains. The same in every format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from checks.diagnosis import STAGES, Diagnosis, Hop, Loss, Stage, Verdict, asked_at, doubtful
from checks.finding import Finding, Status
from reports import plain

#: Rows that are shown one by one; a larger fleet is folded.
ROWS = 20
#: Nodes with the same row that are named in a folded fleet.
NAMED = 3

State = Literal["ok", "loses", "unknown", "-"]
#: A diagnosis that says so in `unseen` is not well, whatever was answered.
UNPROVEN = "nothing was proven"
_WORST: tuple[State, ...] = ("-", "ok", "unknown", "loses")


@dataclass(frozen=True)
class Cell:
    """One stage on one node: the worst of its hops, "-" where there is none. `loss` is the worst protocol's."""

    state: State
    loss: Loss | None = None

    def __str__(self) -> str:
        return f"{rate(self.loss)} lost" if self.state == "loses" and self.loss else self.state


@dataclass(frozen=True)
class Row:
    """One node, or (`node` is "") a sentence about those that are not shown. `why` it was not read, "" if it was."""

    node: str
    cells: tuple[Cell, ...] = ()
    why: str = ""
    more: str = ""


@dataclass(frozen=True)
class Matrix:
    """`stages` are those that were asked, in the order of a query's way."""

    stages: tuple[Stage, ...]
    rows: tuple[Row, ...]


def matrix(diagnosis: Diagnosis) -> Matrix:
    """Every node, worst first where there are many; rows that are the same are folded then."""
    stages = tuple(stage for stage in STAGES if any(hop["stage"] == stage for hop in diagnosis["hops"]))
    hops: dict[tuple[str, Stage], list[Hop]] = {}
    for hop in diagnosis["hops"]:
        hops.setdefault((hop["node"], hop["stage"]), []).append(hop)
    nodes = dict.fromkeys([*diagnosis["nodes"], *(hop["node"] for hop in diagnosis["hops"])])
    rows = [
        Row(node, tuple(_cell(hops.get((node, stage), [])) for stage in stages), diagnosis["nodes"].get(node, ""))
        for node in nodes
    ]
    return Matrix(stages, tuple(rows if len(rows) <= ROWS else _folded(rows)))


def _cell(hops: list[Hop]) -> Cell:
    # Beside a pod that seems to be kept out there is one that tells how the node fares.
    hops = [hop for hop in hops if "why" not in hop] or hops
    state: State = max((hop["state"] for hop in hops), key=_WORST.index, default="-")
    return Cell(state, worst(loss for hop in hops if hop["state"] == state for loss in hop["losses"]))


def _folded(rows: list[Row]) -> Iterable[Row]:
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        cells = tuple(map(str, row.cells))
        # Not every node has a CoreDNS pod: a stage less is no difference among those that are well.
        alike.setdefault((row.why, *(("ok",) if {"ok"} <= set(cells) <= {"ok", "-"} else cells)), []).append(row)
    groups = sorted(alike.values(), key=_severity)
    room = ROWS
    for number, group in enumerate(groups):
        if room <= 0:
            left = sum(len(others) for others in groups[number:])
            yield Row("", more=f"and {left} more nodes, none of them worse")
            return
        yield from group[:NAMED]
        room -= min(NAMED, len(group))
        if len(group) > NAMED:
            yield Row("", more=f"and {len(group) - NAMED} more, {_alike(group[0])}")


def _severity(group: list[Row]) -> tuple[int, float]:
    row = group[0]
    lost = max((cell.loss["low"] for cell in row.cells if cell.state == "loses" and cell.loss), default=0.0)
    return -max([2 if row.why else 0, *(_WORST.index(cell.state) for cell in row.cells)]), -lost


def _alike(row: Row) -> str:
    states = {cell.state for cell in row.cells} - {"-"}
    if row.why:
        return "not read either"
    return "all ok" if states == {"ok"} else "not asked" if not states else "the same"


def worst(losses: Iterable[Loss]) -> Loss | None:
    """The loss to show of several: of DNS, no stray try, the largest share that is certain."""
    return max(
        losses,
        key=lambda loss: (
            loss["protocol"] != "icmp",
            loss.get("loses", bool(loss["lost"])),
            loss["low"],
            loss["lost"],
            loss["unknown"],
        ),
        default=None,
    )


def rate(loss: Loss) -> str:
    """`100%`, `50%`; "?" where nothing could be sent."""
    return f"{100 * loss['lost'] / loss['sent']:.0f}%" if loss["sent"] else "?"


def interval(loss: Loss) -> str:
    """The 95% confidence interval: `38-62%`."""
    return f"{100 * loss['low']:.0f}-{100 * loss['high']:.0f}%"


def spoken(loss: Loss) -> str:
    """`UDP google.com: 10 of 20 lost, 50% (30-70%)`."""
    asked = f"{loss['protocol'].upper()} {plain.line(loss['name'], 80)}".strip()
    if not loss["sent"]:
        return f"{asked}: {loss['unknown']} could not be sent"
    unsent = f", {loss['unknown']} more could not be sent" if loss["unknown"] else ""
    if not loss["lost"]:
        return f"{asked}: {loss['sent']} of {loss['sent']} answered, loss below {100 * loss['high']:.0f}%{unsent}"
    return f"{asked}: {loss['lost']} of {loss['sent']} lost, {rate(loss)} ({interval(loss)}){unsent}"


def hop_name(hop: Hop) -> str:
    """`node-0, pod 172.26.2.145 -> 10.32.0.10:53`."""
    return plain.line(f"{hop['node']}, {hop['source']} -> {asked_at(hop)}", 160)


def first_losing(diagnosis: Diagnosis, verdict: Verdict) -> Hop | None:
    """The hop that a verdict names."""
    return next((hop for hop in diagnosis["hops"] if hop["id"] == verdict["hop"]), None)


def remaining(diagnosis: Diagnosis) -> list[Finding]:
    """What is not well and no verdict explains: fail, then unknown, then warn; of a node that was not read, nothing."""
    explained = {said for verdict in diagnosis["verdicts"] for said in verdict["explained"]}
    explained |= {
        f"{verdict['check']} {node}"
        for verdict in diagnosis["verdicts"]
        for node in verdict["culprits"]
        if verdict["check"]
    }
    # That each check is unknown there is said by its row.
    unread = {node for node, why in diagnosis["nodes"].items() if why}
    return [
        finding
        for status in (Status.FAIL, Status.UNKNOWN, Status.WARN)
        for finding in diagnosis["findings"]
        if finding["status"] == status
        and f"{finding['check']} {finding['node']}" not in explained
        and not (status == Status.UNKNOWN and finding["node"] in unread)
    ]


def compared(diagnosis: Diagnosis) -> list[tuple[str, str, str]]:
    """Each hop that lost or was unknown before, or is now: its name, before, after. Empty without an earlier run."""
    if "before" not in diagnosis:
        return []
    then = {hop["id"]: hop for hop in diagnosis["before"]}
    now = {hop["id"]: hop for hop in diagnosis["hops"]}
    return [
        (hop_name(hop), _fared(then.get(one)), _fared(now.get(one)))
        for one, hop in (then | now).items()
        if {then.get(one, hop)["state"], hop["state"]} != {"ok"}
    ]


def _fared(hop: Hop | None) -> str:
    loss = worst(hop["losses"]) if hop else None
    if hop is None or loss is None:
        return "not asked"
    return "unknown" if hop["state"] == "unknown" else f"{rate(loss)} lost ({interval(loss)})"


def counts(diagnosis: Diagnosis) -> dict[str, int]:
    """How many findings have each status, without those that none has."""
    said = [str(finding["status"]) for finding in diagnosis["findings"]]
    return {str(status): said.count(status) for status in Status if said.count(status)}


def state(diagnosis: Diagnosis) -> Literal["ok", "loses", "unknown"]:
    """What it all comes to. Never "ok" with something unknown, unread, or not asked at all."""
    said = {finding["status"] for finding in remaining(diagnosis)}
    hops = diagnosis["hops"]
    if diagnosis["verdicts"] or any(hop["state"] == "loses" for hop in hops) or Status.FAIL in said:
        return "loses"
    if any(map(doubtful, hops)) or Status.UNKNOWN in said or any(diagnosis["nodes"].values()) or not _proven(diagnosis):
        return "unknown"
    return "ok"


def _proven(diagnosis: Diagnosis) -> bool:
    return bool(diagnosis["hops"]) and not any(one.startswith(UNPROVEN) for one in diagnosis["unseen"])


def headline(diagnosis: Diagnosis) -> str:
    """The state in one sentence."""
    left, hops, nodes = remaining(diagnosis), diagnosis["hops"], diagnosis["nodes"]
    if diagnosis["verdicts"]:
        culprits = sorted({node for verdict in diagnosis["verdicts"] for node in verdict["culprits"]})
        repair = plain.several(culprits) or "no node of ours"
        return f"{_count(len(diagnosis['verdicts']), 'incident')}; to repair: {repair}."
    if state(diagnosis) == "loses":
        losing = _count(sum(hop["state"] == "loses" for hop in hops), "losing hop")
        fails = _count(sum(finding["status"] == Status.FAIL for finding in left), "failed check")
        return f"Something is wrong, and no cause was found: {losing}, {fails}."
    if not _proven(diagnosis):
        return "Nothing was proven: see what could not be seen." if hops else "Nothing was asked, so nothing is proven."
    if state(diagnosis) == "unknown":
        doubts = sum(finding["status"] == Status.UNKNOWN for finding in left)
        unread = sum(map(bool, nodes.values()))
        said = [f"{_count(doubts, 'check')} unknown"] if doubts or not unread else []
        said += [f"{_count(unread, 'node')} unread"] if unread else []
        return f"Nothing is known to be lost, but not all is known: {', '.join(said)}."
    well = "All is well, as far as it was seen" if diagnosis["unseen"] else "All is well"
    return f"{well}: {_count(sum(hop['state'] == 'ok' for hop in hops), 'hop')} on {_count(len(nodes), 'node')} answer."


def same_words(diagnosis: Diagnosis) -> str:
    """What is said once of the fixes that are commands of ours; "" where there is none."""
    ours = any("pyinfra" in verdict["fix"] for verdict in diagnosis["verdicts"])
    return "Run a fix with the inventory, --limit and --data of this run, where others were given." if ours else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
