"""The unit that takes a change back at the next boot: without it nothing is changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from operations.scripts import step_script

RUN = "20261122T080000Z-abcd"
NAME = "net.ipv4.ip_default_ttl"


def said(tmp_path: Path, state: str) -> str:
    """What a step says on this machine, in folders of its own; systemd says this of the unit, and sets no timer."""
    answers = {"systemctl": f"echo {state}", "systemd-run": "exit 1", "sysctl": "echo 64"}
    (tmp_path / "bin").mkdir()
    for name, script in answers.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    file = f"{tmp_path}/90-dnsmend.conf"
    text = step_script(
        "set-sysctls.sh.j2", RUN, "sysctl", 600, about="ttl", now={NAME: "64"}, wanted={NAME: "63"}, file=file
    )
    for path in ("/var/lib/dnsmend", "/etc/systemd/system", "/run/dnsmend"):
        text = text.replace(path, f"{tmp_path}{path}")
    (tmp_path / "run").mkdir()
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name not in ("bin", "run")]
    assert left == [] and not (tmp_path / "var/lib/dnsmend").exists()
    return done.stderr


@pytest.mark.parametrize("state", ["bad-setting", "error", "not-found", ""])
def test_a_unit_that_systemd_does_not_take_ends_the_step_before_any_change(tmp_path: Path, state: str) -> None:
    assert said(tmp_path, state) == (
        "dnsmend: systemd does not take the unit that would undo the change at the next boot "
        f"({state or 'no answer'}; it needs systemd 244); nothing was changed\n"
    )


def test_with_the_unit_the_timer_comes_next(tmp_path: Path) -> None:
    assert "no timer could be set" in said(tmp_path, "loaded")
