"""What others run is what dnsmend ran."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from bench import replay
from bench.fleet import Fleet
from bench.recorded import Exec
from facts.snapshot import FACTS

ASKS = "printf '\\n@dns probes %s\\n' '[]'; cat /proc/41/ns/net ${#x[@]}"


def one(script: str, began: float, *, line: str = "", given: str = "") -> Exec:
    return Exec(node="node-0", script=script, line=line or script, given=given, received=0, began=began, ended=began)


def test_the_same_line_twice_in_a_row_is_run_once() -> None:
    execs = [one("read", 1), one("read", 2), one("change", 3), one("read", 4)]
    assert replay.lines(execs, {}) == ["read </dev/null", "change </dev/null", "read </dev/null"]


def test_pods_are_where_they_are_now() -> None:
    assert replay.lines([one(ASKS, 1)], {"41": "77"}) == [f"{ASKS.replace('/41/', '/77/')} </dev/null"]
    assert replay.lines([one(ASKS, 1)], {"4": "77"}) == [f"{ASKS} </dev/null"]


def test_standard_input_comes_as_it_was() -> None:
    (line,) = replay.lines([one("x", 1, line="sh -c 'cat; echo end'", given="1 YWJj\nit's\n")], {})
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True).stdout == "1 YWJj\nit's\nend\n"


def test_what_ansible_gets_is_no_template(tmp_path: Path) -> None:
    fleet = Fleet(("node-0",), {}, tmp_path)
    replay.write(fleet, [one("read", 1), one(ASKS, 2)], {"node-0": {"41": "42"}})

    class Loader(yaml.SafeLoader):
        pass

    # Every text must carry the tag: Ansible would read `${#` as the beginning of a comment.
    Loader.add_constructor("!unsafe", lambda loader, node: ("unsafe", node.value))
    own = yaml.load((tmp_path / "host_vars/node-0.yml").read_text(), Loader)
    shared = yaml.load((tmp_path / "group_vars/nodes.yml").read_text(), Loader)
    assert own == {"asks": [("unsafe", ASKS.replace("/41/", "/42/"))]}
    assert shared["sections"] == {name: ("unsafe", fact.script) for name, fact in FACTS.items()}
    assert (tmp_path / "lines/node-0").read_text().splitlines()[0] == "set -e"
    assert (tmp_path / "names").read_text() == "node-0\n"


def test_the_playbooks_read_every_section_once() -> None:
    folder = Path(replay.__file__).parent / "ansible/tasks"
    assert re.findall(r"\{\{ sections\.(\w+) \}\}", (folder / "sections.yml").read_text()) == list(FACTS)
    read = re.findall(r'^- name: "(\w+): ', (folder / "read.yml").read_text(), re.MULTILINE)
    assert list(dict.fromkeys(read)) == list(FACTS)


@pytest.mark.parametrize("book", ["read.yml", "diagnose.yml", "fix.yml"])
def test_the_playbooks_are_ones(book: str, tmp_path: Path) -> None:
    folder = Path(replay.__file__).parent / "ansible"
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"nodes": {"hosts": {"node-0": {}}}}))
    argv = ["ansible-playbook", "--syntax-check", "-e", "reads=read", "-i", str(inventory), str(folder / book)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
