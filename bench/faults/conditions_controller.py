"""Two controllers at once, and controllers that cannot write their journal."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.faults.case import Fault, Stage
from bench.faults.controller import ROOT, Done
from bench.faults.moments import Condition, Moment, armed, restarted, when
from bench.faults.scenarios import EXCEPT_LO, TWO_WAVES, UNDO

#: What the one is told that comes second: whose the node is. It has changed nothing then.
_REFUSED = re.compile(r"node-\d: run \S+ of \S+, process \d+ holds this node since")


def _second(stage: Stage) -> None:
    """While the first controller stands still another one begins the same, from a checkout of its own.

    It is refused, or finds nothing left to change.
    """
    with checkout() as other:
        second = replace(stage, checkout=other).pyinfra()
    (stage.folder / "second.log").write_text(second.out)
    refused = second.code == 1 and _REFUSED.search(second.out)
    if re.search(r"\] Success", second.out) or not (refused or second.code == 0):
        stage.problems.append(f"the second controller was not told who holds the node: exit code {second.code}")


@contextmanager
def _together(stage: Stage) -> Iterator[None]:
    """Another controller begins with the first one, from a checkout of its own: they may come one after the other."""
    ended: list[Done] = []

    def begin() -> None:
        with checkout() as other:
            ended.append(replace(stage, checkout=other).pyinfra())

    thread = threading.Thread(target=begin)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if not ended or ended[0].code not in (0, 1):
        stage.problems.append(f"the other controller did not come to its end: {ended}")


@contextmanager
def checkout() -> Iterator[Path]:
    """Another checkout of this very tree, with a folder `runs` of its own. It is made of links."""
    folder = Path(tempfile.mkdtemp(prefix="dnsmend-checkout-"))
    try:
        for entry in ROOT.iterdir():
            if entry.name != "runs":
                (folder / entry.name).symlink_to(entry)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _no_journal(stage: Stage, how: str, moment: Moment | None) -> Iterator[None]:
    """The controller's own journal cannot be written.

    + how: "full": its disk has no room; "file": there is a file called runs; "read-only": its disk is read-only
    + moment: from when on; None for the beginning
    """
    with checkout() as stage.checkout:
        runs = stage.checkout / "runs"
        if how == "file":
            runs.write_text("")
            try:
                yield
            finally:
                stage.checkout = ROOT
            return
        runs.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "journal", str(runs)], check=True)

        def spoil() -> None:
            if how == "full":
                subprocess.run(["dd", "if=/dev/zero", f"of={runs}/ballast", "bs=512"], stderr=subprocess.DEVNULL)
            else:
                subprocess.run(["mount", "-o", "remount,ro", str(runs)], check=True)

        try:
            with when(stage.node, moment, spoil):
                yield
        finally:
            subprocess.run(["umount", "--lazy", str(runs)], check=True)
            stage.checkout = ROOT


_fault = partial(Fault, undo_after=30)


def faults() -> list[Fault]:
    """What goes wrong where the run is started."""
    return [
        *(
            Fault(scenario, "a second controller", point, at=at, act=_second)
            for scenario, point, at in (
                (EXCEPT_LO, "once the first one holds the node", "node-0 lock take answered"),
                (EXCEPT_LO, "between the change and its proof", "node-0 step dnsmasq answered"),
                (UNDO, "once the first one holds the nodes", "operation 2 begins"),
            )
        ),
        _fault(EXCEPT_LO, "a second controller", "at the same time", _together, (0, 1)),
        _fault(TWO_WAVES, "a second controller", "at the same time", _together, (0, 1)),
        _fault(
            EXCEPT_LO,
            "the controller's disk is full",
            "from the beginning",
            _journal("full", None),
            (1,),
            refused="before any change",
        ),
        _fault(
            EXCEPT_LO,
            "the controller's disk is read-only",
            "from the beginning",
            _journal("read-only", None),
            (1,),
            refused="before any change",
        ),
        _fault(
            EXCEPT_LO,
            "the controller's runs is no folder",
            "from the beginning",
            _journal("file", None),
            (1,),
            refused="before any change",
        ),
        _fault(EXCEPT_LO, "the controller's disk is full", "as the change begins", _journal("full", armed), (0, 1)),
        _fault(
            EXCEPT_LO,
            "the controller's disk is read-only",
            "before the proof",
            _journal("read-only", restarted),
            (0, 1),
        ),
        _fault(
            UNDO,
            "the controller's disk is full",
            "from the beginning",
            _journal("full", None),
            (1,),
            refused="before any change",
        ),
    ]


def _journal(how: str, moment: Moment | None) -> Condition:
    return lambda stage: _no_journal(stage, how, moment)
