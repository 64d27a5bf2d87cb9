"""Accounts that are not root on the lab's nodes: what they may do works whole, and nothing else does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from facts.snapshot import NodeSnapshot
from lab.api import Lab
from lab.places import Node
from models.dnsmasq_edits import Edit
from models.interface_policy import Plan
from operations import dnsmasq
from operations.privileges import FIX, READ, SUDOERS
from tests.conftest import ROOT, Run
from tests.deploys.nodes import served, state
from tests.operations.rules import load

pytestmark = pytest.mark.lab

RUN = "20261122T080000Z-1f3a"
ACCOUNTS = {"ciread": READ, "cifix": FIX}
_MAKE = r"""
for what in read fix; do
    groupadd -f "dnsmend-$what"
    useradd --no-create-home --shell /bin/bash --groups "dnsmend-$what" "ci$what"
    mkdir -p "/home/ci$what/.ssh"
    cp ~ops/.ssh/authorized_keys "/home/ci$what/.ssh/"
    chown -R "ci$what:" "/home/ci$what"
done
"""


def files(node: Node) -> str:
    """The files of dnsmasq, with their modes and owners."""
    script = "find /etc/dnsmasq* /etc/default/dnsmasq -type f -exec stat -c '%n %a %U' {} + -exec sha256sum {} + | sort"
    return node.run(["sh", "-c", script]).stdout


def install(pyinfra: Run, *arguments: str, how: str = "-y") -> subprocess.CompletedProcess[str]:
    return pyinfra(how, "inventory", "deploys/privileges.py", *arguments)


def as_account(account: str) -> list[str]:
    return ["--data", f"ssh_user={account}", "--data", f"_shell_executable={ACCOUNTS[account]}"]


@pytest.fixture
def permitted(healed: Lab, pyinfra: Run) -> Iterator[Lab]:
    """The lab, with an account of each kind on every node."""
    for node in healed.nodes:
        node.run(["sh", "-euc", _MAKE])
    done = install(pyinfra)
    assert done.returncode == 0, done.stderr
    yield healed
    for node in healed.nodes:
        node.run(["rm", "-rf", *(f"/home/{account}" for account in ACCOUNTS)])


def sudo(node: Node, account: str, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """`sudo -n WORDS` as that account; `before` goes in front of it, for sh."""
    script = f'cd /tmp && {before} exec sudo -n "$@"'
    return node.run(["runuser", "-u", account, "--", "sh", "-c", script, "sh", *words], check=False)


def findings(path: Path) -> list[tuple[str, ...]]:
    """What a diagnosis found, without what counts up all the time."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["findings"]
    return sorted(
        (each["check"], each["node"], each["status"], re.sub(r"\d+", "N", each["sentence"])) for each in found
    )


def test_installed_once_for_root_alone(permitted: Lab, pyinfra: Run) -> None:
    node = permitted.node("node-0")
    modes = node.run(["stat", "-c", "%n %a %U %G", READ, FIX, SUDOERS]).stdout.splitlines()
    assert modes == [f"{READ} 755 root root", f"{FIX} 755 root root", f"{SUDOERS} 440 root root"]
    assert node.run(["visudo", "-c"]).returncode == 0
    before = state(node)
    again = install(pyinfra)
    assert again.returncode == 0 and again.stderr.count("No changes") == len(permitted.nodes), again.stderr
    assert state(node) == before


def test_sudo_lists_the_program_and_nothing_else(permitted: Lab) -> None:
    node = permitted.node("node-0")
    for account, programs in (("ciread", [READ]), ("cifix", [READ, FIX])):
        listed = node.run(["sudo", "-l", "-U", account]).stdout.partition("may run the following")[2]
        digests = [node.run(["sha256sum", program]).stdout.split()[0] for program in programs]
        assert re.findall(r"sha256:([0-9a-f]{64})\s+(\S+?),?\s", listed) == list(zip(digests, programs, strict=True))
        assert re.findall(r"\(.*?\) \S+", listed) == ["(root) NOPASSWD:"]


def test_a_diagnosis_works_whole(permitted: Lab, pyinfra: Run, tmp_path: Path) -> None:
    permitted.inject("dnsmasq-except-cilium", "node-0")
    for name, how in (("root", []), ("read", as_account("ciread"))):
        to = ["--data", f"json={tmp_path}/{name}.json", "--data", f"capture={tmp_path}/{name}"]
        done = pyinfra("-y", "inventory", "deploys/diagnose.py", *to, *how)
        assert done.returncode == 1, done.stderr
        assert "dnsmend: refused" not in done.stderr, done.stderr
    assert findings(tmp_path / "read.json") == findings(tmp_path / "root.json")
    root, read = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("root", "read"))
    assert [verdict["check"] for verdict in read["verdicts"]] == ["DNSMASQ-001"]
    assert read["unseen"] == root["unseen"]
    # The same places but for the time: `20261122T065140Z_node-1_bond0.pcap`.
    root_files, read_files = ({path.name[17:] for path in (tmp_path / name).iterdir()} for name in ("root", "read"))
    assert read_files == root_files and read_files


def test_a_proof_and_a_plan_work_too(permitted: Lab, pyinfra: Run) -> None:
    permitted.inject("dnsmasq-except-cilium", "node-1")
    proof = pyinfra("-y", "inventory", "deploys/verify.py", *as_account("ciread"))
    assert "pod" in proof.stdout + proof.stderr and "refused" not in proof.stderr, proof.stderr
    plan = pyinfra("--dry", "--diff", "inventory", "deploys/fix_dns.py", *as_account("ciread"))
    assert plan.returncode == 0, plan.stderr
    assert "+except-interface=lo" in plan.stdout + plan.stderr


def test_who_may_only_look_changes_nothing(permitted: Lab, pyinfra: Run) -> None:
    node = permitted.node("node-0")
    permitted.inject("dnsmasq-except-cilium", "node-0")
    before = state(node)
    done = pyinfra("-y", "inventory", "deploys/fix_dns.py", *as_account("ciread"))
    assert done.returncode == 1
    assert "may only look at this node" in done.stderr, done.stderr
    assert state(node) == before


def test_who_may_fix_heals_and_takes_it_back(permitted: Lab, pyinfra: Run) -> None:
    node = permitted.node("node-0")
    permitted.inject("dnsmasq-except-cilium", "node-0")
    broken = files(node)
    done = pyinfra("-y", "inventory", "deploys/fix_dns.py", *as_account("cifix"))
    assert done.returncode == 0, done.stderr
    assert all(served(node).values())
    again = pyinfra("-y", "inventory", "deploys/fix_dns.py", *as_account("cifix"))
    assert again.returncode == 0 and "[node-0] Success" not in again.stderr, again.stderr
    back = pyinfra("-y", "inventory", "deploys/undo.py", "--data", "run=last", *as_account("cifix"))
    assert back.returncode == 0, back.stderr
    assert files(node) == broken
    assert not served(node)["node-0/client udp"]


def test_who_may_fix_sets_alternatives_and_removes_rules(permitted: Lab, pyinfra: Run) -> None:
    """The operations of the other incident, each with data of the node's own."""
    node = permitted.node("node-0")
    node.run(["update-alternatives", "--set", "iptables", "/usr/sbin/iptables-nft"])
    load(node, "iptables-legacy")
    load(node, "iptables-nft")
    for operation, arguments in (
        ("alternatives.backend", ["target=nft"]),
        ("netfilter.remove_hints", ["losing=legacy"]),
        ("netfilter.remove_stale", ["losing=legacy"]),
        ("conntrack.flush", [json.dumps([["dns"], {"vips": ["172.25.4.1"]}])]),
        ("lock.let_go", [json.dumps([[["node-0"]], {}])]),
    ):
        done = pyinfra(
            "-y", "--limit", "node-0", "inventory", f"operations.{operation}", *arguments, *as_account("cifix")
        )
        assert "dnsmend: refused" not in done.stderr, done.stderr
        assert done.returncode == 0, done.stderr
    assert ":KUBE-SERVICES" not in node.run(["iptables-legacy-save"]).stdout
    assert ":KUBE-SERVICES" in node.run(["iptables-nft-save"]).stdout


def test_who_may_fix_cannot_use_it_for_something_else(permitted: Lab) -> None:
    node = permitted.node("node-0")
    content = node.read("/etc/dnsmasq.d/10-interfaces.conf")
    argv = node.run(["sh", "-c", "tr '\\0' '\\n' < /proc/$(cat /run/dnsmasq/dnsmasq.pid)/cmdline"]).stdout.split()
    harmless = Edit("/etc/dnsmasq.d/dnsmend.conf", None, "except-interface=lo\n")
    attempts = {
        "more than interfaces": ([replace(harmless, after="dhcp-script=/tmp/x\n")], argv),
        "written by somebody": ([Edit("/etc/dnsmasq.d/open.conf", "", "interface=lo\n")], argv),
        "does not give -C": ([harmless], [argv[0], "-C", "/tmp/evil"]),
        "does not give --conf-script": ([harmless], [*argv, "--conf-script=/tmp/evil"]),
        "no file of dnsmasq": ([Edit("/tmp/dnsmasq.conf", None, "interface=lo\n")], argv),
    }
    node.run(["sh", "-c", ": > /etc/dnsmasq.d/open.conf; chown cifix /etc/dnsmasq.d/open.conf"])
    before = state(node)
    for why, (edits, command) in attempts.items():
        done = send(node, edits, command)
        assert done.returncode == 126 and why.replace("written by", "can be written by") in done.stderr, (why, done)
    assert state(node) == before
    assert content == node.read("/etc/dnsmasq.d/10-interfaces.conf")
    done = send(node, [harmless], argv)
    assert done.returncode == 0, done.stderr


def send(node: Node, edits: list[Edit], argv: list[str]) -> subprocess.CompletedProcess[str]:
    """A change as fix_dns.py would send it."""
    plan = Plan(tuple(edits), tuple(argv), (), "an attempt", cast(Any, None), cast(Any, None))
    change = dnsmasq.Change("dnsmasq", cast(Any, {"unit": "dnsmasq.service", "pid": 1}), (), plan)
    script, payload = dnsmasq.script(change, RUN, 60), dnsmasq.payload(change, RUN)
    words = ["runuser", "-u", "cifix", "--", "sudo", "-H", "-n", FIX, "-c", script]
    return node.run(words, stdin=payload, check=False)


#: What sudo must not let them do, whoever they are.
NOT_PERMITTED = {
    "a shell": ["sh", "-c", "id"],
    "a program": ["id"],
    "another user": ["-u", "daemon", READ, "-c", "id"],
    "another group": ["-g", "daemon", READ, "-c", "id"],
    "an edit": ["-e", "/etc/shadow"],
    "python": ["/usr/bin/python3", READ, "-c", "id"],
    "a link to it": ["/tmp/dnsmend-read", "-c", "id"],
    "a loader": ["LD_PRELOAD=/tmp/evil.so", READ, "-c", "id"],
    "a path": ["PATH=/tmp", READ, "-c", "id"],
    "a file for bash": ["BASH_ENV=/tmp/evil", READ, "-c", "id"],
    "a module for python": ["PYTHONPATH=/tmp", READ, "-c", "id"],
    "the whole environment": ["-E", READ, "-c", "id"],
    "a login": ["-i"],
    "another folder": ["-D", "/root", READ, "-c", "id"],
}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_nothing_else_is_permitted(permitted: Lab, account: str) -> None:
    node = permitted.node("node-0")
    node.run(["sh", "-c", f"ln -sf {READ} /tmp/dnsmend-read; echo 'id >&2' > /tmp/evil"])
    for what, words in NOT_PERMITTED.items():
        done = sudo(node, account, *words)
        assert done.returncode != 0 and "uid=" not in done.stdout + done.stderr, (what, done)
    for what, words in {"a script of their own": ["-c", "id"], "none": [], "words": ["-c", "true", "id"]}.items():
        done = sudo(node, account, READ, *words)
        assert done.returncode == 126 and "dnsmend: refused" in done.stderr, (what, done)
    if account == "ciread":
        assert "a password is required" in sudo(node, account, FIX, "-c", "id").stderr
    # The caller's environment is not that of the script.
    evil = "BASH_ENV=/tmp/evil ENV=/tmp/evil PYTHONPATH=/tmp PYTHONSTARTUP=/tmp/evil LD_LIBRARY_PATH=/tmp"
    done = sudo(node, account, READ, "-c", NodeSnapshot().command(), before=f"export {evil} PATH=/tmp:$PATH;")
    assert done.returncode == 0 and "uid=" not in done.stdout + done.stderr
    assert "@end System" in done.stdout


def test_a_program_that_has_changed_is_not_run(permitted: Lab, pyinfra: Run) -> None:
    node = permitted.node("node-0")
    node.run(["sh", "-c", f"echo 'print(1)' >> {READ}"])
    done = sudo(node, "ciread", READ, "-c", NodeSnapshot().command())
    assert done.returncode == 1 and "a password is required" in done.stderr and not done.stdout
    # The same command that installed it puts it right.
    assert install(pyinfra).returncode == 0
    assert sudo(node, "ciread", READ, "-c", NodeSnapshot().command()).returncode == 0


def test_a_sudoers_file_that_others_do_not_get_on_with_is_taken_back(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    node.run(
        ["sh", "-c", "echo 'Cmnd_Alias DNSMEND_READ = /bin/true' > /etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz"]
    )
    done = pyinfra("-y", "--limit", "node-0", "inventory", "deploys/privileges.py")
    assert done.returncode == 1 and "visudo does not accept it" in done.stderr, done.stderr
    assert node.run(["test", "-e", SUDOERS], check=False).returncode == 1
    assert node.run(["runuser", "-u", "ops", "--", "sudo", "-n", "true"], check=False).returncode == 0


def test_it_goes_without_a_trace(healed: Lab, pyinfra: Run) -> None:
    node = healed.node("node-0")
    before = state(node)
    dry = install(pyinfra, how="--dry")
    assert dry.returncode == 0 and f"+ {READ} sha256:" in dry.stderr, dry.stderr
    assert state(node) == before
    assert install(pyinfra).returncode == 0
    gone = install(pyinfra, "--data", "remove=true")
    assert gone.returncode == 0, gone.stderr
    left = [line for line in state(node) if line not in before]
    # The folders' times.
    assert [line.split()[0] for line in left] == ["/etc/sudoers.d", "/usr/local/sbin"]
    assert "No changes" in install(pyinfra, "--data", "remove=true").stderr


def test_what_is_kept_on_a_node_is_roots_alone(permitted: Lab, pyinfra: Run) -> None:
    """Old files and journals of a run, and the controller's own journal."""
    node = permitted.node("node-0")
    permitted.inject("dnsmasq-except-cilium", "node-0")
    assert pyinfra("-y", "inventory", "deploys/fix_dns.py").returncode == 0
    assert all(served(node).values())
    assert node.run(["stat", "-c", "%a %U", "/var/lib/dnsmend"]).stdout == "700 root\n"
    open_to_others = node.run(["find", "/var/lib/dnsmend", "-mindepth", "1", "-perm", "/077"]).stdout.split()
    # What was backed up has the mode that it had; its folder lets nobody in.
    assert all("/before/" in path for path in open_to_others)
    journal = max((ROOT / "runs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    assert journal.stat().st_mode & 0o777 == 0o600
    assert sudo(node, "ciread", "ls", "/var/lib/dnsmend").returncode != 0
    assert node.run(["runuser", "-u", "ciread", "--", "ls", "/var/lib/dnsmend"], check=False).returncode != 0
