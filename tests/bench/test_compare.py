"""Samples, ratios, targets and tables; and a short comparison on the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import compare, samples, table
from bench.contenders import CONTENDERS, JOBS, ROOT, recorded
from bench.fleet import Fleet
from bench.imports import by_package
from bench.measure import shares
from bench.samples import Cell, Count, Results, Sample
from bench.targets import Target, handshake, judged
from lab import host
from lab.api import Lab

CELL = Cell("diagnose", 20, 0)


def results(date: str = "2026-01-02", **seconds: list[float]) -> Results:
    kept = [Sample("diagnose", 20, 0, name, each, 1.0, 0.5) for name, all_ in seconds.items() for each in all_]
    return Results("two-cpus", date, samples=kept)


def test_a_ratio_is_one_of_medians() -> None:
    measured = results(dnsmend=[1.0, 2.0, 90.0], ansible=[40.0, 44.0, 48.0])
    assert measured.ratio(CELL, "ansible") == 22.0
    assert measured.ratio(CELL, "raw") is None


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "RESULTS", tmp_path)
    first, second = results("2026-01-02", dnsmend=[1.0]), results("2026-01-03", dnsmend=[2.0])
    first.counts.append(Count("read", "dnsmend", 1.0, 1.0, 10, 20))
    first.save()
    second.save()
    assert samples.load(first.file) == first
    assert samples.earlier(second) == first
    assert samples.earlier(first) is None
    second.forget([CELL], ["ansible"])
    assert second.seconds(CELL, "dnsmend") == [2.0]
    second.forget([CELL], ["dnsmend"])
    assert second.samples == []


@pytest.mark.parametrize(("ansible", "held"), [(39.0, False), (40.0, True)])
def test_a_target_is_held_or_not(ansible: float, held: bool) -> None:
    target = Target(CELL, "ansible", "faster", 20)
    _, _, found = judged(target, results(dnsmend=[2.0], ansible=[ansible])) or ("", "", None)
    assert found is held


@pytest.mark.parametrize(("raw", "held"), [(1.7, True), (1.6, False)])
def test_at_most_so_many_times_as_slow(raw: float, held: bool) -> None:
    target = Target(CELL, "raw", "slower", 1.2)
    _, _, found = judged(target, results(dnsmend=[2.0], raw=[raw])) or ("", "", None)
    assert found is held


def test_a_distant_diagnosis_is_held_against_one_handshake_and_the_scripts() -> None:
    measured = results(raw=[4.0])
    far = Cell("diagnose", 20, 50)
    assert handshake(measured, far) is None
    measured.samples += [
        Sample("connect", 20, 0, "raw", 1.0, 1.0, 0.5),
        Sample("connect", 20, 50, "raw", 1.4, 1.0, 0.5),
        Sample("diagnose", 20, 50, "dnsmend", 6.5, 1.0, 0.5),
    ]
    # 1.5 * (1.4 + 4.0 - 1.0)
    _, seconds, held = handshake(measured, far) or ("", "", None)
    assert (seconds, held) == ("6.50 s", True)


def test_the_table_shows_a_ratio_that_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "RESULTS", tmp_path)
    before = results("2026-01-02", dnsmend=[1.0], raw=[1.0], ansible=[30.0])
    now = results("2026-01-03", dnsmend=[2.0], raw=[1.9], ansible=[30.0])
    table.write(now, before)
    text = now.file.with_suffix(".md").read_text()
    assert "| Ansible | 1 | 30.00 | 30.00 | 30.00 | 15.00 | **30.00** | 0.050 | 0.5 |" in text
    assert "| 0.95 | 1.00 |" in text
    assert "20x faster than ansible | 15.0x | NO |" in text


def test_what_overlaps_counts_once() -> None:
    def exec_(began: float, ended: float) -> dict[str, object]:
        return {"node": "", "script": "", "line": "", "given": "", "received": 0, "began": began, "ended": ended}

    recording = {"connected": [("a", 11.0, 12.0), ("b", 11.0, 13.0)], "execs": [exec_(15.0, 18.0), exec_(16.0, 17.0)]}
    said = shares(recording, CELL, 10.0, 20.0)  # type: ignore[arg-type]
    assert (said.starting, said.ssh, said.outside) == (1.0, 5.0, 4.0)


def test_imports_are_counted_by_package() -> None:
    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1500 |       1500 |   dns.name\n"
        "import time:       500 |       2000 | dns\n"
    )
    assert by_package(text) == {"dns": 2.0}


@pytest.mark.parametrize("contender", list(CONTENDERS))
@pytest.mark.parametrize("job", list(JOBS))
def test_everybody_does_every_job(contender: str, job: str, tmp_path: Path) -> None:
    command = CONTENDERS[contender].command(job, Fleet(("node-0", "node-1"), {}, tmp_path))
    for word in command.argv:
        if word.startswith(("bench/", "deploys/", str(ROOT))):
            assert (ROOT / word).exists()
    if contender in ("dnsmend", "apart"):
        assert "--record" in recorded(command, tmp_path / "kept").argv


@pytest.mark.lab
def test_a_short_comparison(healed: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One node, some milliseconds away: connect, and a repair by dnsmend, by its scripts, and by Ansible."""
    monkeypatch.setattr(samples, "RESULTS", tmp_path)
    short = ["--nodes", "1", "--rtt", "4", "--rounds", "1"]
    assert compare.main([*short, "--jobs", "connect", "--contenders", "dnsmend,raw,apart"]) == 0
    assert compare.main([*short, "--jobs", "fix", "--contenders", "dnsmend,raw,ansible"]) == 0
    measured = samples.today()
    assert {one.contender for one in measured.samples if one.job == "fix"} == {"dnsmend", "raw", "ansible"}
    counted = {(one.job, one.contender): one for one in measured.counts}
    assert counted["connect", "dnsmend"].execs == counted["connect", "raw"].execs == 1
    assert all(one.connections == 1 and one.received > 1000 for one in counted.values())
    assert "repair one broken node" in measured.file.with_suffix(".md").read_text()
    assert not healed.record.faults.get("node-0")


def test_a_lab_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    monkeypatch.setattr(host, "INOTIFY_INSTANCES", limit)
    host.require_inotify(3)
    with pytest.raises(host.LabError, match=r"fs\.inotify\.max_user_instances=190"):
        host.require_inotify(20)
