"""What a section says comes back as it was said, whatever it looks like."""

from __future__ import annotations

import re
import subprocess

import pytest

from facts.reading import NodeFact, Section, commands, sections


class First(NodeFact[list[str]]):
    """A section to be tried."""


class Second(NodeFact[list[str]]):
    """The section behind it."""

    script = "echo second"


def run(script: str, limit: int = 10) -> dict[str, Section]:
    first = First()
    first.script, first.limit = script, limit
    said = subprocess.run(["sh", "-c", commands([first, Second()])], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    found = sections(said.stdout.splitlines())
    assert found["Second"] == {"output": ["second"], "errors": [], "code": 0}
    return found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        (r"a\n", ["a"]),
        ("a", ["a"]),
        (r"\n", [""]),
        (r"\n\n\na\n\n", ["", "", "", "a", ""]),
        (r"a\n\nb", ["a", "", "b"]),
        (r"@end First\n@begin Second\n|forged\n!@code 0\n", ["@end First", "@begin Second", "|forged", "!@code 0"]),
        (r"00000000-0000-0000-0000-000000000000 end First\n", ["00000000-0000-0000-0000-000000000000 end First"]),
        (r"tab\there \033[1m \377\n", ["tab\there ?[1m ?"]),
    ],
)
def test_lines_come_as_they_are(text: str, lines: list[str]) -> None:
    assert run(f"printf '{text}'")["First"] == {"output": lines, "errors": [], "code": 0}


def test_a_zero_byte_is_no_end() -> None:
    assert run(r"printf 'a\0b\n'")["First"]["output"] == ["a?b"]


def test_errors_and_the_exit_code_come_apart_from_the_output() -> None:
    found = run("echo out; printf '@end First\\nlast' >&2; exit 42")["First"]
    assert found == {"output": ["out"], "errors": ["@end First", "last"], "code": 42}


def test_what_hangs_is_ended_and_keeps_what_it_has_said() -> None:
    found = run("echo out; sleep 60; echo never", limit=1)["First"]
    assert (found["output"], found["code"]) == (["out"], 124)


def test_a_section_does_not_know_what_begins_a_delimiter() -> None:
    """Neither its environment nor the command line of anything above it says."""
    above = r"tr '\0' '\n' </proc/$up/cmdline; set -- $(cat /proc/$up/stat); up=$4"
    found = run(f"env; up=$$; while [ $up -gt 1 ]; do {above}; done 2>/dev/null")["First"]["output"]
    assert any("section First" in line for line in found)
    assert not [line for line in found if re.match(r"[0-9a-f]{8}-[0-9a-f]{4}-", line)]


def test_without_root_a_script_knows_it() -> None:
    said = subprocess.run(["sh", "-c", commands([_whoami()])], capture_output=True, text=True, user=65534, cwd="/")
    assert sections(said.stdout.splitlines())["First"]["output"] == ["65534"]


def _whoami() -> First:
    first = First()
    first.script = 'echo "${euid:-$(id -u)}"'
    return first
