"""What a fault is: something that pyinfra has to do, what goes wrong meanwhile, and at which boundary.

A boundary is a moment of the controller that can be named, and comes in every run: see `bench.faults.controller`.

    node-0 connect before        node-0 connect answered
    node-0 read 1 before         the first look at node-0 is about to be sent to it
    node-0 read 1 sent           the node runs it; what it gets on its standard input is not written yet
    node-0 read 1 running        the same, with all of its input
    node-0 read 1 answered       its exit code is known
    node-0 lock take running     also: lock renew, lock release, confirm, take back
    node-0 step dnsmasq sent     a step's script, by the step's name: dnsmasq, alternatives, netfilter, sysctl ...
    node-0 ask 1 running         questions of the proof
    node-0 do 1 running          any other command of an operation
    operation 3 begins           the third operation of the run, on all hosts
    node-0 operation 3 done      what it is has been done on that host

`python -m bench.faults --list SCENARIO` plays a scenario without a fault and prints those that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.faults.controller import ROOT, Controller, Done, run
from lab.api import Lab
from lab.places import Node

#: What a node may look like afterwards: as before, as after an undisturbed run, or (guards are files each for itself)
#: some of each.
Outcome = Literal["old", "new", "between"]
#: In a scenario's words.
RUN = "RUN"


@dataclass
class Stage:
    """A fault's play: the lab, the node with the incident, the controller while there is one.

    + words: pyinfra's, as a user would give them: ("deploys/fix_dns.py", "--data", "undo_after=60")
    + folder: where something can be kept of this one; it stays if it turns out badly
    + checkout: where pyinfra is started; a condition may set another one before it is
    + problems: what a condition has seen that must not be, in sentences: each makes the point worse
    """

    lab: Lab
    words: tuple[str, ...]
    folder: Path
    name: str = "node-0"
    controller: Controller | None = None
    checkout: Path = ROOT
    problems: list[str] = field(default_factory=list)

    @property
    def node(self) -> Node:
        """The node with the incident, looked up anew: a reboot gives it other processes."""
        return self.lab.node(self.name)

    def pyinfra(self, *words: str, timeout: float = 300) -> Done:
        """Run pyinfra from this checkout as a user would, with -y and the inventory; without words: the same again."""
        return run(words or self.words, timeout=timeout, checkout=self.checkout)

    def kill(self) -> None:
        """SIGKILL to the controller."""
        if self.controller:
            self.controller.kill()


@dataclass(frozen=True)
class Scenario:
    """What pyinfra has to do.

    + prepare: makes the incident on the healed lab
    + words: of pyinfra, after -y and the inventory; RUN stands for the run that is the node's latest then
    + nodes: those that have the incident, and are judged; the first is the stage's
    + between: whether a node may have some of the new files and some old ones (each of them whole)
    """

    name: str
    prepare: Callable[[Lab], None]
    words: tuple[str, ...]
    nodes: tuple[str, ...] = ("node-0",)
    between: bool = False


def nothing(stage: Stage) -> None:
    """Nothing happens there."""


def no_condition(stage: Stage) -> AbstractContextManager[None]:
    """Nothing is wrong with the node."""
    return nullcontext()


def kill(stage: Stage) -> None:
    """SIGKILL to the controller."""
    stage.kill()


@dataclass(frozen=True)
class Fault:
    """What goes wrong while pyinfra does what it has to do.

    + name: and point: for the table: "SSH cut", "in the middle of the change"
    + during: holds while pyinfra runs, and is over before the node is judged
    + codes: exit codes of pyinfra that are right; -9 for a controller that is killed
    + at: the boundary at which the controller is halted, "" for none
    + act: what happens there; the controller goes on afterwards, if it still lives
    + outcomes: what may be found on the nodes afterwards; it is "worse" if it is something else
    + undo_after: for this run, below what the policy takes (30), so that less has to be waited for
    + rest: seconds within which everything on the node has come to its end after pyinfra's end
    + refused: what pyinfra must have said, a regular expression; "" for anything
    + keeps_lock: whether the node is out of reach when pyinfra ends, so that its lock cannot be released and runs out
    + twice: whether the same command is run once more after it has repaired what was left, and must be quiet
    + kind: the row of the table for kills
    """

    scenario: Scenario
    name: str
    point: str
    during: Callable[[Stage], AbstractContextManager[None]] = no_condition
    codes: Sequence[int] = (0,)
    at: str = ""
    act: Callable[[Stage], None] = nothing
    outcomes: Sequence[Outcome] = ("old", "new")
    undo_after: int = 60
    rest: float = 60
    refused: str = ""
    keeps_lock: bool = False
    twice: bool = True
    kind: str = "condition"
