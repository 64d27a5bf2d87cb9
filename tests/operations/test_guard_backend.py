"""The look at iptables, run as it stands: how it ends, and what only has to be said."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from operations.scripts import TEMPLATES

#: Nothing of this machine's is looked at: there is no rule in either backend.
TOOLS = "names() { :; }; saver() { :; }; no_nft() { :; }"


def look(folder: Path, metrics: Path, *arguments: str, version: str = "v1.8.9 (nf_tables)") -> tuple[int, list[str]]:
    """Exit code and what was said, where the command iptables says this version, and was of nft."""
    command = folder / "iptables"
    command.write_text(f"#!/bin/sh\necho 'iptables {version}'\n")
    command.chmod(0o755)
    script = TEMPLATES.get_template("guards/backend.sh.j2").render(
        notice="",
        metrics=str(metrics),
        boot="block",
        tools=TOOLS,
        backend="nft",
        other="legacy",
        commands=["iptables"],
        groups=[],
        owned="^KUBE-",
        hashed="^KUBE-SEP-",
    )
    (folder / "backend").write_text(script)
    path = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(folder / "backend"), *arguments], capture_output=True, text=True, env={"PATH": path}
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("arguments", [[], ["boot"]])
def test_all_is_well(tmp_path: Path, arguments: list[str]) -> None:
    metrics = tmp_path / "dnsmend_backend.prom"
    assert look(tmp_path, metrics, *arguments) == (0, [])
    assert "dnsmend_guard_backend_consistent 1\n" in metrics.read_text()


@pytest.mark.parametrize("what", ["no folder", "full"])
@pytest.mark.parametrize(("version", "code"), [("v1.8.9 (nf_tables)", 0), ("v1.8.9 (legacy)", 1), ("of its own", 2)])
def test_only_iptables_blocks_a_boot_and_no_metrics_do(tmp_path: Path, what: str, version: str, code: int) -> None:
    metrics = tmp_path / "metrics/dnsmend_backend.prom"
    if what == "full":
        metrics.parent.mkdir()
        metrics.with_name("dnsmend_backend.prom.boot").symlink_to("/dev/full")
        metrics.with_name("dnsmend_backend.prom.run").symlink_to("/dev/full")
    cannot = f"<3>dnsmend: the metrics cannot be written: {metrics}"
    at_boot, said = look(tmp_path, metrics, "boot", version=version)
    assert at_boot == code and said[-1] == cannot
    assert len(said) == (1 if code == 0 else 2)
    # What runs each minute keeps nothing from starting: its unit fails, which is seen.
    assert look(tmp_path, metrics, version=version) == (2, said)
    assert not metrics.exists() and (what != "full" or not list(metrics.parent.iterdir()))
