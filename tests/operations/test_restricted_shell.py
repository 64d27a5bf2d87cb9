"""The shell that knows only our scripts: it takes each of ours whatever data it holds, and nothing that is like one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import dns.rdataclass
import dns.rdatatype
import pytest

from facts import counters, history, snapshot
from facts.provision import Provision
from facts.sysctl_files import SysctlFiles
from operations import privileges, restricted_shell, wave
from operations.allowed_reading import reading
from operations.script_patterns import Hole, of_template, of_text
from operations.sysctl import Settings
from probes import capture, wire
from probes.capture_filter import Point
from probes.carry import IN_FLIGHT, carry
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
    facts = [*snapshot.FACTS.values(), *history.FACTS.values(), *counters.FACTS.values(), Provision(), SysctlFiles()]
    assert [name_of(fact.command()) for fact in facts] == [type(fact).__name__ for fact in facts]
    assert name_of(snapshot.NodeSnapshot().command()) == "NodeSnapshot"
    assert name_of(history.NodeHistory().command()) == "NodeHistory"
    assert name_of(counters.NodeCounters().command()) == "NodeCounters"


@pytest.mark.parametrize("asked", [[], PROBES, *([each] for each in PROBES)], ids=str)
def test_every_question_is_known(asked: list[Probe]) -> None:
    assert name_of(carry(asked)) == "questions"


def test_as_much_as_dnsmend_ever_asks_is_known() -> None:
    """A policy's most: 200 tries, 30 s, 20 pods, 10000 questions a second; and as many as their ids can tell apart."""
    sources = [HOST, *(pod("x", pid) for pid in range(1, 21))]
    proof = [probe("172.25.4.1", "a.x", source=source, tries=200, deadline_s=30) for source in sources] * 3
    for rate in (10, 1000, 9973, 10_000):
        for asked in (PROBES, PROBES[:1], proof, [probe("172.25.4.1", "a.x", tries=999)] * 38):
            assert name_of(carry(asked, rate)) == "questions"


def test_what_the_shell_knows_of_questions_is_what_they_are_made_of() -> None:
    assert restricted_shell.MOST_TRIES == wire.IDS and restricted_shell.IN_FLIGHT == IN_FLIGHT
    assert all(dns.rdatatype.from_text(name) == number for name, number in restricted_shell.TYPES.items())
    assert all(dns.rdataclass.from_text(name) == number for name, number in restricted_shell.CLASSES.items())
    assert not [line for line in carry([]).split("\n") if line.startswith("ask ")]


@pytest.mark.parametrize(
    "name",
    [
        "kubernetes.default.svc.cluster.local",
        "prometheus.monitoring.svc",
        "Mixed-Case_1.x",
        r"a\032b.\\\046.x",
        ".".join(["a" * 63] * 3 + ["a" * 61]),
    ],
)
def test_every_name_is_known(name: str) -> None:
    assert name_of(carry([probe("172.25.4.1", name)])) == "questions"


def test_a_capture_is_known_wherever_it_is() -> None:
    assert name_of(capture.script(POINTS, PROBES, [53, 1053])) == "captures"
    assert name_of(capture.script(POINTS[:1], PROBES[:1])) == "captures"
    for asked in (each for each in PROBES if each["name"]):
        for point in POINTS:
            assert name_of(capture.script([point] * capture.MOST_POINTS, [asked] * 8, range(5300, 5340))) == "captures"


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


def renamed(name: str, labels: bytes) -> Change:
    """Another name than version.bind, and the bytes that belong to it."""
    return replaced(f"{VERSION} version.bind. ", f"{VERSION[:20]}{labels.hex()}{VERSION[-8:]} {name} ")


#: The first question's bytes, behind their id.
VERSION = wire.without_id(PROBES[0])

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
    "bytes that are no DNS": replaced(VERSION, b"POST /quit HTTP/1.0\r\n\r\n".hex()),
    "bytes before the question": replaced(VERSION, "0d0a" + VERSION),
    "bytes behind the question": replaced(VERSION, VERSION + "0d0a"),
    "no question": replaced(VERSION, "00"),
    "an update": replaced(VERSION, "2800" + VERSION[4:]),
    "two questions": replaced(VERSION, VERSION[:4] + "0002" + VERSION[8:]),
    "an additional section": replaced(VERSION, VERSION[:16] + "0001" + VERSION[20:]),
    "another name than its own": replaced("version.bind. TXT CH", "version.dino. TXT CH"),
    "another type than its own": replaced("version.bind. TXT CH", "version.bind. A CH"),
    "another class than its own": replaced("version.bind. TXT CH", "version.bind. TXT IN"),
    "a whole zone": replaced(f"{VERSION} version.bind. TXT CH", f"{VERSION[:-8]}00fc0001 version.bind. AXFR IN"),
    "a line feed in a name": renamed(r"a\010b.", b"\3a\nb\0"),
    "a line of words in a name": renamed(r"aaaaaaaaaa.FLUSHALL\032\032.", b"\naaaaaaaaaa\nFLUSHALL  \0"),
    "a label with a pointer's length": renamed("a" * 192 + ".", b"\xc0" + b"a" * 192 + b"\0"),
    "a name that is too long": renamed(("a" * 63 + ".") * 4, (b"\x3f" + b"a" * 63) * 4 + b"\0"),
    "more tries than ids can tell apart": lambda script: re.sub("( '1 tcp .*?') &", r"\1\1\1\1 &", script).replace(
        " 5353 135 ", " 5353 9999 "
    ),
    "ids of three bytes": replaced(" 2000000 0 0100", " 2000000 99999 0100"),
    "more tries in flight": replaced(" 16 1387 '0", " 17 1387 '0"),
    "no pause between tries": replaced(" 16 1387 '0", " 16 0 '0"),
    "hardly a pause between tries": replaced(" 16 1387 '0", " 16 90 '0"),
    "more than ten minutes": replaced(" 50 16 1387 '0", " 601 16 1387 '0"),
    "pings without an end": replaced("sh 3 172.25.4.1 20 ", "sh 3 172.25.4.1 9999 "),
    "a quote in the JSON": replaced('"name":"default/client"', '"name":"\';id;\'"'),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_is_like_a_question_is_refused(change: Change) -> None:
    script = carry(PROBES)
    assert change(script) != script
    said = refused(change(script))
    assert "this account may only look at this node" in said and "deploys/privileges.py" in said


#: The filter of the first point, and the third one's, as they begin.
OF_HOST = "host 172.26.2.145 and (((udp or tcp) and (port 53 or port 5353))"
OF_UPLINK = "(udp and (port 53 or port 5353) and (udp[20:4] & 0xdfdfdfdf == "


def filtered(text: str) -> Change:
    """Another filter for the first point."""
    return lambda script: re.sub(f"'{re.escape(OF_HOST)}[^']*'", lambda _: f"'{text}'", script)


HOSTILE_CAPTURES: dict[str, Change] = {
    "any packet of TCP": filtered("tcp"),
    "another filter": filtered("host 10.0.0.5 and tcp port 6379"),
    "no port": filtered("host 172.26.2.145 and (((udp or tcp)) or icmp[0] == 3)"),
    "anything else as well": replaced(OF_HOST, f"{OF_HOST} or tcp"),
    "a range of ports": replaced(OF_HOST, OF_HOST.replace("port 53 ", "portrange 1-65535 ")),
    "a port by its name": replaced(OF_HOST, OF_HOST.replace("port 53 ", "port http ")),
    "hundreds of ports": replaced(OF_HOST, OF_HOST.replace("port 53 ", "port 53 or port 54 " + "or port 55 " * 300)),
    "a network for a host": replaced("host 172.26.2.145", "net 0.0.0.0/0"),
    "another mask": replaced(f"{OF_UPLINK}", OF_UPLINK.replace("0xdfdfdfdf", "0x0")),
    "any name": replaced(f"{OF_UPLINK}", OF_UPLINK.replace("(udp[20:4]", "(udp or tcp or udp[20:4]")),
    "any bytes, without tcpdump": replaced(f"{VERSION[20:]} 53,", "00 53,"),
    "no bytes, without tcpdump": lambda script: re.sub(r'"\$6" [0-9a-f,]+ ', '"$6"  ', script),
    "all ports, without tcpdump": replaced(" 53,5353\n", f" {','.join(map(str, range(1, 99)))}\n"),
    "a question that is none": replaced(f" {VERSION} ", " 0d0a "),
    "more tries than ids can tell apart": replaced(" 2000000 0 0100", " 2000000 38400 0100"),
    "some seconds more than a minute": lambda script: re.sub("timeout -k 1 [0-9]+ ", "timeout -k 1 61 ", script),
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
    assert change(script) != script
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
