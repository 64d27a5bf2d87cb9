"""Clocks that jump while pyinfra runs: what the node's scripts and the controller read of the time of day.

The machine's own clock is not set: the lab's nodes share it. Undo timers and the lock count seconds since the boot.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.faults.case import Fault, Stage
from bench.faults.scenarios import EXCEPT_LO, UNDO

# date(1) of the node: another year at each call. A given time is not touched.
_DATE = """#!/bin/sh
case " $* " in *" -d "* | *" --date"*) exec /usr/bin/date "$@" ;; esac
calls=$(cat /run/fault-date 2>/dev/null || echo 0)
echo $((calls + 1)) > /run/fault-date
case $((calls % 3)) in 0) jump='+400 days' ;; 1) jump='-400 days' ;; *) jump=now ;; esac
exec /usr/bin/date --date="$jump" "$@"
"""
# Python reads it as it starts: the time of day of that process is another year every other second.
_SITE = """
import time
_real = time.time
def _jumping():
    now = _real()
    return now + (0, 400, -400)[int(now) % 3] * 86400
time.time = _jumping
_gmtime = time.gmtime
time.gmtime = lambda seconds=None: _gmtime(_jumping() if seconds is None else seconds)
"""


@contextmanager
def _node_clock(stage: Stage) -> Iterator[None]:
    """What the node's scripts read of the time of day jumps by 400 days, forth and back."""
    stage.node.write("/usr/local/bin/date", _DATE, 0o755)
    try:
        yield
        if not (stage.node.files / "run/fault-date").exists():
            raise RuntimeError("nothing has asked for the time of day")
    finally:
        stage.node.remove("/usr/local/bin/date", "/run/fault-date")


@contextmanager
def _controller_clock(stage: Stage) -> Iterator[None]:
    """The controller's time of day jumps by 400 days, forth and back."""
    with tempfile.TemporaryDirectory(prefix="dnsmend-clock-") as folder:
        Path(folder, "sitecustomize.py").write_text(_SITE)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = folder if before is None else f"{folder}:{before}"
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before


def faults() -> list[Fault]:
    """A repair and its way back on a node, and from a controller, in another year every moment."""
    return [
        Fault(scenario, name, "all the time", during=during, undo_after=30)
        for scenario, name, during in (
            (EXCEPT_LO, "the node's date(1) jumps", _node_clock),
            (UNDO, "the node's date(1) jumps", _node_clock),
            (EXCEPT_LO, "the controller's clock jumps", _controller_clock),
        )
    ]
