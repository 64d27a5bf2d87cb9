"""Ctrl-C: a run that was stopped is no success, whatever it was doing; with pyinfra itself, on this machine."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from deploys.exits import Exit
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("words", "doing"),
    [
        pytest.param(["-y", "@local", "exec", "--", "sleep 60"], "Starting operation", id="a-command-runs"),
        pytest.param(["@local", "server.shell", "echo"], "skip this step with -y", id="it-asks-whether-to-go-on"),
    ],
)
def test_ctrl_c_ends_a_run_with_130(words: list[str], doing: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pyinfra", "--data", "_sudo=false", *words],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"PYINFRA_PROGRESS": "off"},
    ) as run:
        os.close(theirs)
        try:
            said = _until(ours, doing)
            # Python looks for signals before it waits for a line, and then when one comes: not in between.
            time.sleep(1)
            run.send_signal(signal.SIGINT)
            said += _until(ours, "stopped by Ctrl-C")
            assert run.wait(timeout=60) == Exit.INTERRUPTED, said
        finally:
            run.kill()
            os.close(ours)


def _until(terminal: int, words: str) -> str:
    said = ""
    deadline = time.monotonic() + 60
    while words not in said:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, said
        said += os.read(terminal, 4096).decode(errors="replace")
    return said
