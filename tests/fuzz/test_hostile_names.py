"""Names that a shell, a template, a terminal or a report could take for more than names, on a real node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.fuzz.pipeline import RAW, _check_html

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = "/etc/dnsmasq.d"
CULPRIT = f"{FOLDER}/$(touch pwned).conf"
#: What a terminal obeys and what is no text, in a comment beside the line that will be edited.
TEXT = (
    "except-interface=cilium_*\n# $(touch /pwned) \x1b]0;pwned\x07 \x1b[2J \x9b <script>alert(1)</script> | {{ 7*7 }}\n"
)
NAMES = (
    "a;touch pwned;.conf",
    "`touch pwned`.conf",
    "it's.conf",
    "[bold]x.conf",
    "<script>.conf",
    "{{ 7*7 }}.conf",
    "|a|.conf",
)
_LINKS = r"""
ip link add 'a;b' type veth peer name '$(x)`y`'
ip link add '<b>|x' type veth peer name "q'\"{{7*7}}"
ip address add 192.0.2.77/24 dev 'a;b'
ip link set 'a;b' up
systemctl restart dnsmasq
"""
_FIND = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /etc/dnsmasq.d -o -path /var/lib/dnsmend \) -prune -o \
    -name '*pwned*' -print
"""


@pytest.fixture
def hostile(healed: Lab) -> Iterator[Node]:
    """node-0 in the incident, by the first line of a file of that name."""
    node = healed.node("node-0")
    node.write(CULPRIT, TEXT)
    for name in NAMES:
        node.write(f"{FOLDER}/{name}", "# nothing\n")
    node.run(["sh", "-c", _LINKS])
    yield node
    node.run(["sh", "-c", "ip link del 'a;b'; ip link del '<b>|x'; rm -f /etc/dnsmasq.d/dnsmend.conf"], check=False)
    node.remove(CULPRIT, *(f"{FOLDER}/{name}" for name in NAMES))
    node.run(["systemctl", "restart", "dnsmasq"])


def pwned(node: Node) -> list[str]:
    """What somebody has made of a name, on the node or here."""
    there = node.run(["sh", "-c", _FIND], check=False).stdout.split()
    return [*there, *map(str, ROOT.glob("*pwned*"))]


def on_a_terminal(*arguments: str) -> str:
    """pyinfra's output on a terminal: there it is not stripped of anything."""
    held: list[bytes] = []

    def read(end: int) -> bytes:
        held.append(os.read(end, 65536))
        return held[-1]

    script = "import pty, sys, os; pty.spawn(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", script, sys.executable, "-m", "pyinfra", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=200,
        env=os.environ | {"PYINFRA_PROGRESS": "off", "COLUMNS": "200", "TERM": "xterm"},
    )
    return done.stdout.decode("utf-8", "replace")


def test_looking_planning_and_fixing_run_nothing_of_it(hostile: Node, pyinfra: Run, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"d.{kind}" for kind in ("json", "html", "junit", "markdown")}
    given = [word for kind, file in files.items() for word in ("--data", f"{kind}={file}")]
    done = pyinfra("-y", "inventory", "deploys/diagnose.py", *given, "--data", f"bundle={tmp_path / 'b'}", timeout=300)
    assert done.returncode == 1, done.stderr
    assert not RAW.search(done.stderr.replace("\r", ""))
    (verdict,) = json.loads(files["json"].read_text())["verdicts"]
    assert verdict["check"] == "DNSMASQ-001" and f"({CULPRIT}:1)" in verdict["sentence"]
    _check_html(files["html"].read_text())
    ElementTree.fromstring(files["junit"].read_text())
    assert not RAW.search(files["markdown"].read_text())

    plan = on_a_terminal("inventory", "deploys/fix_dns.py", "--dry", "--diff")
    assert f"--- {CULPRIT}" in plan and "#dnsmend: except-interface=cilium_*" in plan
    assert not RAW.search(re.sub("\x1b\\[[0-9;?]*[a-zA-Z]|\r", "", plan))
    assert "\x1b[2J" not in plan and "\x1b]" not in plan

    fixed = pyinfra("inventory", "deploys/fix_dns.py", "-y", timeout=300)
    assert fixed.returncode == 0, fixed.stderr
    assert hostile.read(CULPRIT) == TEXT.replace("except", "#dnsmend: except", 1)
    assert hostile.pod("client").ask(hostile.plan.vip).good
    assert pwned(hostile) == []


def test_what_would_be_run_is_noticed(hostile: Node) -> None:
    hostile.run(["touch", "/run/pwned", "/root/pwned"])
    assert pwned(hostile) == ["/root/pwned"]
    hostile.remove("/run/pwned", "/root/pwned")
