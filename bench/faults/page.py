"""docs/faults.md, made from the points that have been played."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.faults import points
from bench.faults.play import TCP_RATE, UDP_RATE
from bench.faults.tally import Point
from operations.lock import TTL

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "faults.md"

_HEAD = """\
# Faults

What a node looks like after something has failed while pyinfra changed it. Made on the lab by `make faults`
([bench/faults](../bench/faults)): real Debian nodes with sshd, systemd and dnsmasq, pyinfra's own command line, and
the faults injected from outside; nothing in dnsmend knows of them.

{total} points, {kills} of them kills of the controller. {verdict}
Played {dates} on {machine}.

## What is judged

Each time: the nodes are healed and the incident made; pyinfra is started, and fails as the row says; then the node is
left to itself until nothing of dnsmend is at work there any more (what was not confirmed goes back by its own timer;
`undo_after` is {undo_after} s for kills, where the policy takes 30 s or more). The node is *worse* if

- somebody is not answered who was answered before: node, LAN and two pods, over UDP and TCP, asked with dig;
- a file in /etc or /usr/local, an alternative, the rules of an iptables backend or a kernel setting is neither what it
  was nor, byte for byte, what an undisturbed run makes of it;
- a timer, unit, process, held lock or temporary file of dnsmend is left, or a step that was neither confirmed nor taken
  back, or the lock's time lies further ahead than it may ({ttl} s);
- pyinfra ends with an exit code that it must not have there;
- the same command, run again, does not end well and bring the node to where an undisturbed run does; where the node
  was being changed, also if it changes something when it is run once more. Where nothing of the run is on the node, and
  nothing differs, that would be the first run: it is not made (-).

A killed controller's lock is not waited for: its end is checked, and then moved to the past on the node.
*Old*: the node is as before. *New*: as after an undisturbed run. *Lost*: of the questions that node, pod and LAN ask
meanwhile ({udp} a second over UDP, {tcp} over TCP, each), those of the ones who are served before and after; dnsmasq's
restart costs some whenever it is restarted (see [collateral](collateral.md)), and so does other work on this machine.

## The controller is killed

At the boundaries of a run: before a command is sent to a node, when it is sent and its standard input is not, while it
runs, when its exit code is known, before and after each operation on each node, around each connection; and, with
"while", at 16 moments spread over the time that a change takes on the node, or 4 over that of a shorter script.
`python -m bench.faults --list except-lo` prints the boundaries of a run; those that have not been played yet are, by
the next `make faults`, and those again that were worse.

| what pyinfra does | killed | points | state | worse | lost | run again |
|---|---|---|---|---|---|---|
"""

_CONDITIONS = """
## What else fails

A full disk is a small tmpfs over the folders that are written to, a read-only one a read-only bind mount; a cable that
is out is the node's port taken from the lab's switch, so that neither end is told; a power cut is that and a boot of
the container. Clocks: a container has the clock of this machine, which is not set here. What was tried is a date(1) on
the node that jumps by 400 days, forth and back, at each call, and a controller whose Python reads such a time of day;
the undo timers and the lock count seconds since boot (systemd's OnActiveSec, /proc/uptime), which no clock moves.
kube-proxy is a stand-in that answers on its metrics address: the lab has no Kubernetes.

| fault | when | what pyinfra does | exit code | state | worse | lost | run again |
|---|---|---|---|---|---|---|---|
"""


def page(played: list[Point]) -> str:
    """The page of these points."""
    kills = [each for each in played if each["name"] == points.NAME]
    others = [each for each in played if each["name"] != points.NAME]
    bad = [each for each in played if each["worse"]]
    verdict = (
        f"Worse afterwards: {len(bad)}." if bad else "None is worse afterwards, and the same command repairs it then."
    )
    loads = [each["load"] for each in played if each["load"] is not None]
    text = _HEAD.format(
        total=len(played),
        kills=len(kills),
        verdict=verdict,
        dates=" to ".join(sorted({min(dates), max(dates)}) if (dates := [each["date"] for each in played]) else ()),
        machine=f"{os.cpu_count()} cores that had other work too (load average {min(loads):.0f} to {max(loads):.0f})"
        if loads
        else f"{os.cpu_count()} cores",
        undo_after="6 to 25",
        ttl=TTL,
        udp=UDP_RATE,
        tcp=TCP_RATE,
    )
    text += "".join(_killed(kills))
    if others:
        text += _CONDITIONS + "".join(map(_condition, sorted(others, key=lambda one: (one["name"], one["point"]))))
    if bad:
        text += "\n## Worse\n\n" + "".join(
            f"- {each['scenario']}: {each['name']}: {each['point']}: {_cell('; '.join(each['worse']))}\n"
            for each in bad
        )
    return text


def _killed(kills: list[Point]) -> Iterable[str]:
    """One row for each scenario and kind of boundary."""
    rows: dict[tuple[str, str], list[Point]] = {}
    for each in sorted(kills, key=lambda one: (one["scenario"], one["kind"])):
        rows.setdefault((each["scenario"], each["kind"]), []).append(each)
    for (scenario, kind), group in rows.items():
        states = Counter(_states(each) for each in group)
        lost = [sum(each["lost"].values()) for each in group]
        again = [each["again"] for each in group if each["again"] is not None]
        yield _line(
            scenario,
            kind,
            len(group),
            ", ".join(f"{count} {state}" for state, count in sorted(states.items(), reverse=True)),
            sum(bool(each["worse"]) for each in group),
            f"{min(lost)} to {max(lost)}" if min(lost) != max(lost) else lost[0],
            f"{sum(again)} of {len(again)}" if again else "-",
        )


def _condition(each: Point) -> str:
    return _line(
        each["name"],
        each["point"],
        each["scenario"],
        each["code"],
        _states(each),
        "; ".join(each["worse"]) or "no",
        sum(each["lost"].values()),
        {True: "yes", False: "no", None: "-"}[each["again"]],
    )


def _line(*cells: object) -> str:
    return f"| {' | '.join(_cell(str(each)) for each in cells)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _states(each: Point) -> str:
    """ "old", or "new, old" for two nodes: the first one's first."""
    found = [each["outcomes"][name] for name in sorted(each["outcomes"])]
    return found[0] if len(set(found)) == 1 else " + ".join(found)
