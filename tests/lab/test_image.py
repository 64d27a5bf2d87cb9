"""Which of the machine's package sources the nodes' root is built from, and what an interrupted build leaves."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import host, image
from lab.host import LabError


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("deb http://mirror.example/debian bookworm main", True),
        (
            "deb [signed-by=/usr/share/x.gpg arch=amd64] http://mirror.example/debian bookworm-updates main contrib",
            True,
        ),
        ("deb http://mirror.example/debian-security bookworm-security main # ours", True),
        ("deb-src http://mirror.example/debian bookworm main", False),
        ("# deb http://mirror.example/debian bookworm main", False),
        ("deb https://vendor.example/linux/debian bookworm stable", False),
        ("deb https://vendor.example/apt bookworm-vendor main", False),
        ("deb http://mirror.example/debian trixie main", False),
    ],
)
def test_one_line_sources(line: str, taken: bool) -> None:
    assert image._is_debian_line(line) is taken


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"Enabled": "no"}, False),
        ({"Suites": "trixie"}, False),
        ({"Suites": "bookworm trixie"}, False),
        ({"Components": "stable"}, False),
        ({"Types": "deb-src"}, False),
    ],
)
def test_stanzas(change: dict[str, str], taken: bool) -> None:
    fields = {
        "Types": "deb",
        "URIs": "http://mirror.example/debian",
        "Suites": "bookworm bookworm-updates",
        "Components": "main",
    }
    stanza = "\n".join(f"{key}: {value}" for key, value in {**fields, **change}.items())
    assert image._is_debian_stanza(stanza) is taken


_INTERRUPTED = """
import subprocess, sys
from lab import image
real = subprocess.run
def slow(argv, **settings):
    return real(["sleep", "4"] if argv[0] == "mmdebstrap" else argv, **settings)
subprocess.run = slow
image.ensure()
"""


def test_a_killed_build_leaves_no_root_and_no_second_build_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DNSMEND_CACHE", str(tmp_path))
    builder = subprocess.Popen([sys.executable, "-c", _INTERRUPTED], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not list(tmp_path.glob("*.partial/log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    builder.kill()
    builder.wait()
    assert not image.path().exists()
    # What the killed program had started still writes.
    with pytest.raises(LabError, match="is at work"), host.locked(tmp_path):
        pass
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with host.locked(tmp_path):
                break
        except LabError:
            time.sleep(0.1)
    else:
        pytest.fail("the lock was never released")
