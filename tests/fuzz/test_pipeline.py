"""A node's texts in the hands of somebody hostile, through judging, planning, every report and every command."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.fuzz import pipeline
from tests.fuzz.test_targets import ending

TURNS = range(12)


@pytest.mark.parametrize("turn", TURNS)
def test_texts_stay_texts_in_every_report(turn: int) -> None:
    with ending():
        pipeline.judge(pipeline.bent(random.Random(turn), addresses=False))


def test_most_of_them_are_judged_and_not_refused() -> None:
    judged = [pipeline.judge(pipeline.bent(random.Random(turn), addresses=False)) for turn in TURNS]
    assert sum(map(bool, judged)) > len(TURNS) / 2


@pytest.mark.parametrize("turn", TURNS)
def test_a_tampered_recording_is_judged_or_refused_in_one_sentence(turn: int) -> None:
    with ending():
        pipeline.replay(pipeline.bent(random.Random(1000 + turn), 30))


@pytest.mark.parametrize("turn", TURNS)
def test_a_node_that_lies_stops_nobody_else(turn: int) -> None:
    with ending():
        made = pipeline.lied(random.Random(turn))
        diagnosis = pipeline.judge(made)
        assert diagnosis and set(diagnosis["nodes"]) == {"node-0", "node-1"}
        pipeline.plan(made)


@pytest.mark.parametrize("turn", TURNS)
def test_commands_hold_texts_as_data(turn: int, tmp_path: Path) -> None:
    with ending():
        for script in pipeline.plan(pipeline.bent(random.Random(turn), addresses=False)):
            file = tmp_path / "script"
            file.write_text(script, encoding="utf-8", errors="surrogateescape")
            done = subprocess.run(["sh", "-n", str(file)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stderr}\n{script[:2000]}"


def test_there_are_commands_to_look_at() -> None:
    scripts = [script for turn in TURNS for script in pipeline.plan(pipeline.parts(random.Random(turn)))]
    for part in ("mount --bind", "--set", "systemctl restart", "conntrack -f"):
        assert any(part in script for script in scripts), part
