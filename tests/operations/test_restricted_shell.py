"""The shell that knows only our scripts: it takes each of ours whatever data it holds, and nothing that is like one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from facts import counters, history, snapshot
from facts.provision import Provision
from operations import privileges, restricted_shell, wave
from operations.allowed_reading import reading
from operations.script_patterns import Hole, of_template, of_text
from operations.sysctl import Settings
from probes import capture
from probes.capture_filter import Point
from probes.carry import carry
from probes.probe import HOST, Probe, pod, probe

POD = pod("default/client", 4321, address="172.26.2.145")
PROBES = [
    probe("172.25.4.1", "version.bind", "TXT", rdclass="CH", source=POD),
    probe("172.25.4.1", "_sip._tcp.a-b.example.com", "SRV", source=POD, protocol="tcp", port=5353, tries=135),
    probe("fd00::4:1", "*.example.com", "AAAA", source=pod("x", 7, address="fd00::2:145"), deadline_s=0.25),
    probe("172.25.4.1", source=POD, protocol="icmp"),
    probe("fd00::4:1", protocol="icmp", tries=3),
    probe("127.0.0.53", ".", "NS", source=HOST, rcodes=["NOERROR"]),
    probe("10.0.0.1", r"a\032b\.c.example.com", source={"name": "it's $(id) `id`", "netns": "", "address": ""}),
]
POINTS: list[Point] = [
    {"interface": "eth0", "role": "source", "netns": "/proc/4321/ns/net", "inode": 4026532200, "host": "172.26.2.145"},
    {"interface": "lxc12@if3", "role": "arrival", "netns": "", "inode": 0, "host": "fd00::2:145"},
    {"interface": "bond0.12", "role": "uplink", "netns": "", "inode": 0, "host": ""},
]


@cache
def known() -> dict[str, Any]:
    """As a node has it."""
    return cast("dict[str, Any]", json.loads(json.dumps(reading())))


@pytest.fixture(autouse=True)
def _looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_shell, "KNOWN", known())


def name_of(script: str) -> str:
    return restricted_shell.known(script)[0]


def refused(script: str) -> str:
    with pytest.raises(restricted_shell.Refused) as reason:
        restricted_shell.known(script)
    return str(reason.value)


def test_every_fact_that_reads_is_known() -> None:
    facts = [*snapshot.FACTS.values(), *history.FACTS.values(), *counters.FACTS.values(), Provision()]
    assert [name_of(fact.command()) for fact in facts] == [type(fact).__name__ for fact in facts]
    assert name_of(snapshot.NodeSnapshot().command()) == "NodeSnapshot"
    assert name_of(history.NodeHistory().command()) == "NodeHistory"
    assert name_of(counters.NodeCounters().command()) == "NodeCounters"


@pytest.mark.parametrize("asked", [[], PROBES, *([each] for each in PROBES)], ids=str)
def test_every_question_is_known(asked: list[Probe]) -> None:
    assert name_of(carry(asked)) == "questions"


def test_a_capture_is_known_wherever_it_is() -> None:
    assert name_of(capture.script(POINTS, PROBES, [53, 1053])) == "captures"
    assert name_of(capture.script(POINTS[:1], PROBES[:1])) == "captures"


def test_settings_and_refusals_are_known() -> None:
    settings = Settings().command(["net.ipv4.ip_forward", "net.ipv4.vs.expire_nodest_conn"])
    assert name_of(str(settings.get_raw_value())) == "kernel settings"
    assert name_of(str(wave.refusal("refused: it's $(not) `wanted`").get_raw_value())) == "a refusal"


Change = Callable[[str], str]


def replaced(old: str, new: str) -> Change:
    def change(script: str) -> str:
        assert old in script
        return script.replace(old, new)

    return change


HOSTILE: dict[str, Change] = {
    "a command of its own": lambda script: "id",
    "nothing": lambda script: "",
    "something before": lambda script: "id\n" + script,
    "something behind": lambda script: script + "\nid",
    "something behind, on the line": lambda script: script + ";id",
    "a newline behind": lambda script: script + "\n",
    "a background job": replaced("\nwait\n", "\nid &\nwait\n"),
    "another namespace": replaced("/proc/4321/ns/net", "/proc/1/root/tmp/net"),
    "a way up": replaced("/proc/4321/ns/net", "/proc/4321/../1/ns/net"),
    "a namespace that ends early": replaced("/proc/4321/ns/net", "/proc/4321/ns/net;id"),
    "another test of the address": replaced("/proc/net/fib_trie", "/etc/shadow"),
    "a command in the address": replaced("172.25.4.1 53", "172.25.4.1$(id) 53"),
    "an option for ping": replaced("sh 3 172.25.4.1", "sh 3 -f"),
    "a number that bash would evaluate": replaced("udp 172.25.4.1 53 20", "udp 172.25.4.1 53 a[$(id)]"),
    "a quote in a row": replaced("version.bind. TXT", "version.bind.';id;' TXT"),
    "a newline in a row": replaced("version.bind. TXT", "version.bind.\nid\n TXT"),
    "an option for dig": replaced("version.bind. TXT", "version.bind. -f/etc/shadow"),
    "another carrier": replaced("exec {never}<> <(:)", "id; exec {never}<> <(:)"),
    "a quote in the JSON": replaced('"name":"default/client"', '"name":"\';id;\'"'),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_is_like_a_question_is_refused(change: Change) -> None:
    script = carry(PROBES)
    assert change(script) != script
    said = refused(change(script))
    assert "this account may only look at this node" in said and "deploys/privileges.py" in said


HOSTILE_CAPTURES: dict[str, Change] = {
    "an option for tcpdump": replaced("'host 172.26.2.145", "'-z id"),
    "an option, without quotes": replaced("'(udp and (port 53", "-wfile'(udp and (port 53"),
    "another interface": replaced(" bond0.12 ", " '-w/etc/passwd' "),
    "a command as interface": replaced(" bond0.12 ", " $(id) "),
    "more than a minute": replaced("timeout -k 1 ", "timeout -k 1 1"),
    "more packets": replaced("-c 2000 ", "-c 20000000 "),
    "what is asked meanwhile": replaced("echo @dns end", "id; echo @dns end"),
    "a file": replaced("-w - ", "-w /etc/passwd "),
}


@pytest.mark.parametrize("change", HOSTILE_CAPTURES.values(), ids=HOSTILE_CAPTURES)
def test_what_is_like_a_capture_is_refused(change: Change) -> None:
    script = capture.script(POINTS, PROBES[:2])
    refused(change(script))


def test_a_line_more_is_refused_wherever_it_stands() -> None:
    lines = carry(PROBES).split("\n")
    for at in range(0, len(lines), 7):
        refused("\n".join([*lines[:at], "id", *lines[at:]]))
        refused("\n".join([*lines[:at], lines[at] + " ;id", *lines[at + 1 :]]))


def test_a_fact_that_is_changed_is_refused() -> None:
    refused(snapshot.NodeSnapshot().command() + " ")
    refused(snapshot.NodeSnapshot().command().replace("export LC_ALL=C", "export LC_ALL=D"))


def test_a_name_of_a_setting_is_no_option() -> None:
    refused(str(Settings().command(["-w"]).get_raw_value()))
    refused(str(Settings().command(["net.x; id"]).get_raw_value()))


def program(tmp_path: Path) -> Path:
    path = tmp_path / "dnsmend-read"
    path.write_text(privileges.program(reading()))
    path.chmod(0o755)
    return path


def test_the_program_runs_alone_in_a_clean_environment(tmp_path: Path) -> None:
    """As a node has it: nothing of ours, nothing of the caller's environment."""
    evil = tmp_path / "evil"
    evil.write_text("echo evil >&2")
    caller = os.environ | {"BASH_ENV": str(evil), "ENV": str(evil), "PYTHONPATH": str(tmp_path), "PATH": str(tmp_path)}
    (tmp_path / "json.py").write_text("raise SystemExit('evil')")
    (tmp_path / "sysctl").write_text("#!/bin/sh\necho evil")
    (tmp_path / "sysctl").chmod(0o755)
    script = str(Settings().command(["kernel.ostype"]).get_raw_value())
    done = subprocess.run(
        [program(tmp_path), "-c", script], env=caller, cwd=tmp_path, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "kernel.ostype=Linux\n", "")


@pytest.mark.parametrize(
    "argv", [[], ["-c"], ["id"], ["-c", "id"], ["-c", "true", "x"], ["-x", "true"], ["-ic", "true"]]
)
def test_the_program_refuses_with_a_sentence(tmp_path: Path, argv: list[str]) -> None:
    done = subprocess.run([program(tmp_path), *argv], capture_output=True, text=True, timeout=20)
    assert done.returncode == restricted_shell.REFUSED
    assert done.stderr.startswith("dnsmend: refused: ") and done.stderr.endswith("nothing was done\n")


def test_a_template_with_unknown_data_cannot_be_allowed() -> None:
    with pytest.raises(KeyError):
        of_template("step.sh.j2", {})
    with pytest.raises(KeyError):
        of_text("systemctl restart @unit@", {})
    assert of_text("x @unit@ y", {"unit": Hole("u", "[a-z]+")}) == ["x ", {"hole": "u", "like": "[a-z]+"}, " y"]


def test_the_quoting_is_that_of_sh() -> None:
    """A quoted hole takes what shlex.quote writes, and that is one word."""
    words = ["it's", "a b", "", "$(id)", "x'y'z", '"']
    script = str(wave.refusal(" ".join(words)).get_raw_value())
    assert name_of(script) == "a refusal"
    assert shlex.split(script)[2] == " ".join(words)
