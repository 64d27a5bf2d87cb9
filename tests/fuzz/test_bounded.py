"""A node that never ends, that says gigabytes, or bytes that a terminal obeys: the controller keeps its own bounds."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host
from pyinfra.connectors import util
from pyinfra.connectors.util import CommandOutput, run_local_process

from facts import bounded, snapshot
from lab.api import Lab
from tests.conftest import Run

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As config.py installs it, with small bounds."""
    monkeypatch.setattr(util, "read_buffer", bounded.read_buffer)
    monkeypatch.setattr(bounded, "BYTES", 1_000_000)


def said(command: str) -> CommandOutput:
    return run_local_process(command, timeout=60)[1]


def test_what_comes_is_as_it_was() -> None:
    assert said("printf 'a  b\\t c\\n\\nlast'; echo no >&2").stdout_lines == ["a  b\t c", "", "last"]
    assert said("seq 20000").stdout_lines == [str(number) for number in range(1, 20001)]
    assert said("echo no >&2").stderr_lines == ["no"]


def test_what_a_terminal_would_obey_and_what_is_no_text() -> None:
    assert said(r"printf 'a\033[2Jb\r\n\377\302\233\n\0'").stdout_lines == ["a?[2Jb", "\ufffd?", "?"]


@pytest.mark.parametrize(
    "command", ["yes", "cat /dev/zero", "yes >&2", "while :; do echo; done", "head -c 2000000 /dev/zero"]
)
def test_without_end_is_cut_off_and_nothing_of_it_kept(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LINES", 10_000)
    found = said(command)
    assert found.stderr_lines[-1] == "the output was cut off: more than 1000000 bytes or 10000 lines"
    assert len(found.combined_lines) < 10_000


def test_pyinfra_reads_by_it_from_the_start() -> None:
    """config.py is what pyinfra executes before it connects."""
    script = """
import runpy
from pyinfra.api.config import Config
from pyinfra.connectors import util
from pyinfra.context import ctx_config
with ctx_config.use(Config()):
    runpy.run_path("config.py")
print(util.read_buffer.__module__)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "facts.bounded\n"


@pytest.mark.parametrize("words", util.SUDO_PASSWORD_REQUIRED_LINES)
@pytest.mark.parametrize("before", ["", "lies\\n", "lies\\r\\n \\t"])
def test_no_node_can_have_a_password_asked_for(words: str, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyinfra asks the operator at these words, and puts what is typed into the command that it sends next."""

    def asked(prompt: str) -> str:
        raise AssertionError(prompt)

    monkeypatch.setattr(util, "getpass", asked)
    host: Any = SimpleNamespace(print_prefix="[node-0] ", connector_data={})
    for stream in ("1", "2"):
        command = f"printf '{before}{words} \\r\\n' >&{stream}; exit 1"
        done = util.execute_command_with_sudo_retry(host, {}, lambda command=command: run_local_process(command))
        assert done[0] == 1 and done[1].combined_lines[-1].line.endswith("NOPASSWD is needed")
        assert host.connector_data == {}


class Endless(snapshot.NodeSnapshot):
    """What a hostile node would send in the place of a snapshot."""

    def command(self) -> str:
        return "echo @begin System; yes '|padding padding padding padding'"


class Rude(snapshot.NodeSnapshot):
    """A title for the terminal, bytes that are no text, and an exit code that makes pyinfra print all of it."""

    def command(self) -> str:
        return r"printf '\033]0;pwned\007\377\377\n@begin System\n'; exit 3"


@pytest.mark.lab
def test_over_ssh(reached: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert get_fact(reached.state, reached, Endless, kwargs={"_timeout": 60}, apply_failed_hosts=False) is None
    assert get_fact(reached.state, reached, Rude, kwargs={"_timeout": 60}, apply_failed_hosts=False) is None
    # The connection is as good as before.
    read = snapshot.of(reached)
    assert read and read["system"]["state"] == "value"
    told = capsys.readouterr()
    assert "\x07" not in told.out + told.err and "\x1b]" not in told.out + told.err


#: In the place of the shell that answers sudo's question, on one node: it does what a hostile sshd would.
_LIAR = """#!/bin/sh
case "$*" in
    *"section System"*) yes '|lies and lies and lies and lies and lies and lies and lies and lies' ;;
esac
exec /usr/bin/sudo.real "$@"
"""


@pytest.fixture
def lying(healed: Lab) -> Iterator[Lab]:
    """node-1 streams without end whatever is asked of it as root."""
    node = healed.node("node-1")
    node.run(["mv", "/usr/bin/sudo", "/usr/bin/sudo.real"])
    node.write("/usr/bin/sudo", _LIAR, 0o755)
    yield healed
    node.run(["mv", "-f", "/usr/bin/sudo.real", "/usr/bin/sudo"])


@pytest.mark.lab
def test_a_run_goes_on_without_the_node_that_never_ends(lying: Lab, pyinfra: Run, tmp_path: Path) -> None:
    report = tmp_path / "d.json"
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", "--data", f"json={report}", timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(report.read_text())
    assert told["nodes"]["node-1"] and not told["nodes"]["node-0"] and not told["nodes"]["node-2"]
    assert "the output was cut off" in done.stderr
    assert len(done.stderr) < 200_000
    assert stat.S_ISREG(report.stat().st_mode)


@pytest.mark.lab
def test_a_node_whose_sudo_wants_a_password_is_told_and_nobody_is_asked(healed: Lab, pyinfra: Run) -> None:
    healed.node("node-1").write("/etc/sudoers.d/ops", "ops ALL=(ALL:ALL) ALL\n", 0o440)
    for deploy in ("deploys/diagnose.py", "deploys/fix_dns.py"):
        done = pyinfra("-y", "inventory", deploy)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stderr.count("[node-1] sudo: a password is required: NOPASSWD is needed\n") == 1, done.stderr
        assert "sudo password" not in done.stderr and "askpass" not in done.stderr
    assert "Nothing was changed on any node" in done.stderr
