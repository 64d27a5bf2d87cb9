"""What runs have left below /var/lib/dnsmend on a node: their steps, what became of each, and the way back."""

from __future__ import annotations

import shlex
from typing import Literal, TypedDict

from typing_extensions import override

from facts.reading import NodeFact, commands

#: On the node: one folder per run, in it one per step with the old files, the new ones, a journal and undo.sh.
FOLDER = "/var/lib/dnsmend"

State = Literal["open", "proven", "undone"]
_STATES: dict[str, State] = {"open": "open", "proven": "proven", "undone": "undone"}
#: Runs that are looked at: more than a node keeps.
_MOST = 50


class Step(TypedDict):
    """One change of a run on a node.

    + number: its place in the run on this node, from 1; wave: the run's wave in which it was made, 0 for none
    + time: seconds since 1970, by the node's clock; booted: whether the node has been booted since
    + by: who ran it, from where; what: what it did, in words
    + state: "open" is not confirmed; `reason` is why it was taken back, "" where it was not
    """

    run: str
    step: str
    number: int
    wave: int
    time: int
    booted: bool
    by: str
    what: str
    state: State
    reason: str


class Runs(NodeFact[list[Step]]):
    """The steps of all runs that this node keeps, in the order of their runs' ids.

    A run that was taken back but for the restart of kube-proxy has an open step "kube-proxy".

    .. code:: python

        [{"run": "20261122T080000Z-1f3a", "step": "dnsmasq", "number": 1, "wave": 2, "time": 1795334400,
          "booted": False, "by": "root@ctl, process 71", "what": "...", "state": "proven", "reason": ""}]
    """

    script = rf"""
[ -e {FOLDER} ] || exit 0
[ -r {FOLDER} ] && [ -x {FOLDER} ] || {{ echo "{FOLDER} may not be read" >&2; exit 77; }}
boot=$(cat /proc/sys/kernel/random/boot_id)
for run in $(ls -1 {FOLDER} | sort | tail -n {_MOST}); do
    for about in {FOLDER}/"$run"/*/about; do
        [ -e "$about" ] || continue
        step=${{about%/about}} state=open
        [ -e "$step/sums" ] || continue
        [ ! -e "$step/proven" ] || state=proven
        [ ! -e "$step/undone" ] || state=undone
        echo "step $state $run ${{step##*/}}"
        head -c 2000 "$about" | grep -e '^number ' -e '^wave ' -e '^time ' -e '^by ' -e '^what '
        grep -qx "boot $boot" "$about" || echo "booted"
        [ ! -e "$step/undone" ] || printf '%s\n' "reason $(head -c 300 "$step/undone" | head -n 1)"
    done
    # The backend is back, and the kube-proxy that was led away from it has not been restarted yet.
    for undone in {FOLDER}/"$run"/alternatives/undone {FOLDER}/"$run"/netfilter*/undone; do
        if [ -e "$undone" ] && [ -e {FOLDER}/"$run"/kube-proxy ]; then echo "step open $run kube-proxy"; break; fi
    done
done
"""

    @override
    def read(self, output: list[str]) -> list[Step]:
        found: list[Step] = []
        for line in filter(None, output):
            key, _, value = line.partition(" ")
            if key == "step":
                state, run, step = value.split(" ", 2)
                found.append(
                    {
                        "run": run,
                        "step": step,
                        "number": 0,
                        "wave": 0,
                        "time": 0,
                        "booted": False,
                        "by": "",
                        "what": "",
                        "state": _STATES[state],
                        "reason": "",
                    }
                )
                continue
            last = found[-1]
            if key == "number":
                last["number"] = int(value)
            elif key == "wave":
                last["wave"] = int(value)
            elif key == "time":
                last["time"] = int(value)
            elif key == "by":
                last["by"] = value
            elif key == "what":
                last["what"] = value
            elif key == "reason":
                last["reason"] = value
            elif key == "booted":
                last["booted"] = True
        return found


class WayBack(TypedDict):
    """What taking a run back would do on a node, step by step, and what stands in the way, in words."""

    does: list[str]
    refused: list[str]


class UndoPlan(NodeFact[WayBack | None]):
    """What `run.sh plan` of a run says: nothing is changed.

    + run: the run's id

    .. code:: python

        {"does": ["dnsmasq: restore /etc/dnsmasq.d/k8s.conf (sha256 9f86d0...)", ...], "refused": []}
    """

    limit = 60

    @staticmethod
    @override
    def nothing() -> WayBack | None:
        return None

    @override
    def command(self, run: str = "none") -> str:
        path = shlex.quote(f"{FOLDER}/{run}/run.sh")
        self.script = f"[ -e {path} ] || exit 0; sh {path} plan || [ $? = 3 ]"
        return commands([self])

    @override
    def read(self, output: list[str]) -> WayBack:
        lines = [line.partition(" ") for line in output if line]
        return {
            "does": [words for key, _, words in lines if key == "do"],
            "refused": [words for key, _, words in lines if key == "refused"],
        }
