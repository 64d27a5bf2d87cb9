"""A reader at the keyboard: a checkout of their own, and a home."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab import keys
from lab.api import Lab
from tests.docs import blocks


@pytest.fixture
def folder(healed: Lab, tmp_path: Path) -> Path:
    """A checkout of the reader's own, on a healthy lab."""
    return blocks.checkout(tmp_path / "dnsmend")


@pytest.fixture
def home(healed: Lab, tmp_path: Path) -> Path:
    """A home with the lab's key and host keys where ssh and pyinfra look for them."""
    made = tmp_path / "home"
    (made / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(keys.client_key(), made / ".ssh/id_ed25519")
    shutil.copy(keys.known_hosts(), made / ".ssh/known_hosts")
    # ssh takes its home from passwd(5), whatever HOME is.
    (made / "bin").mkdir()
    (made / "bin/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {keys.config()} -o BatchMode=yes "$@"\n')
    (made / "bin/ssh").chmod(0o755)
    return made
