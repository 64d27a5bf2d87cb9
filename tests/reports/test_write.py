"""Where reports go: files that are whole or not there, standard output, and one sentence for what cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports import write
from tests.reports import diagnoses


def test_every_format_in_one_go(tmp_path: Path) -> None:
    paths = write.wanted({name: str(tmp_path / name) for name in write.FORMATS} | {"other": 1})
    assert set(paths) == {"json", "junit", "markdown", "html"}
    write.write(diagnoses.cilium(), paths)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(write.FORMATS), "and nothing else is left"
    assert json.loads((tmp_path / "json").read_text())["format"] == 1
    assert (tmp_path / "html").read_text().lstrip().startswith("<!doctype html>")


def test_standard_output_gets_the_report_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    write.write(diagnoses.cilium(), {"json": "-"})
    said = capsys.readouterr()
    assert json.loads(said.out)["verdicts"][0]["check"] == "DNSMASQ-001"
    assert said.err == ""


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"json": ""}, "--data json=: must be a file to write, or - for standard output"),
        ({"json": True}, "--data json=True: must be a file to write"),
        ({"html": "/nowhere/at/all.html"}, "--data html=/nowhere/at/all.html: there is no directory /nowhere/at"),
        ({"html": "/tmp"}, "--data html=/tmp: is a directory"),
        ({"json": "-", "junit": "-"}, "json and junit cannot both be written to -"),
        ({"markdown": "x", "html": "x"}, "markdown and html cannot both be written to x"),
    ],
)
def test_what_cannot_be_written_is_said_first(data: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        write.wanted(data)
    assert str(error.value).startswith(sentence)


def test_the_older_report_stays_if_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"report\.json: the json report could not be written: No space left on device"):
        write.write(diagnoses.healthy(), {"json": str(path)})
    assert path.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["report.json"]


def test_a_device_is_written_to_and_not_replaced() -> None:
    write.write(diagnoses.healthy(), {"json": "/dev/null"})
    assert Path("/dev/null").is_char_device()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    (tmp_path / "link").symlink_to("real")
    write.write(diagnoses.healthy(), {"json": str(tmp_path / "link")})
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").stat().st_size > 100
