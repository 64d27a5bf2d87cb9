"""The operation changes what it should, once; shows it before; can be taken back; and refuses what is not its own."""

from __future__ import annotations

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run
from tests.operations.conftest import Operate

pytestmark = pytest.mark.lab

FILE = "/etc/resolv.conf"
FOUR = (
    "search example.com\nnameserver 172.25.4.1\nnameserver 172.25.4.2\nnameserver 172.25.4.3\nnameserver 192.0.2.53\n"
)
THREE = FOUR.replace("nameserver 192.0.2.53", "#dnsmend: nameserver 192.0.2.53")


@pytest.fixture
def node(healed: Lab) -> Node:
    """node-0 with the fault; `healed` brings its files back."""
    found = healed.node("node-0")
    found.remove(FILE)
    found.write(FILE, FOUR)
    return found


def test_it_is_changed_once_and_taken_back(node: Node, operate: Operate, pyinfra: Run) -> None:
    planned = operate("example.name_servers", dry=True)
    assert planned.returncode == 0 and "192.0.2.53 is never asked" in planned.stderr
    assert node.read(FILE) == FOUR
    assert operate("example.name_servers").returncode == 0
    assert node.read(FILE) == THREE
    again = operate("example.name_servers")
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]
    (run,) = node.run(["ls", "/var/lib/dnsmend"]).stdout.split()
    undone = pyinfra("-y", "--limit", "node-0", "inventory", "deploys/undo.py", "--data", f"run={run}")
    assert undone.returncode == 0, undone.stderr
    assert node.read(FILE) == FOUR


def test_what_somebody_else_writes_is_refused(healed: Lab, operate: Operate) -> None:
    node = healed.node("node-0")
    before = node.run(["readlink", FILE]).stdout
    done = operate("example.name_servers", "most=0")
    assert done.returncode == 1
    assert "refused: /etc/resolv.conf is a symlink to" in done.stderr
    assert node.run(["readlink", FILE]).stdout == before
