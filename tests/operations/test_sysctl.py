"""Kernel settings: set now and for every boot, only what differs, and taken back unless somebody else came between."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from lab.places import Node
from operations.sysctl import FILE
from tests.conftest import Run
from tests.operations.conftest import Operate

pytestmark = pytest.mark.lab

#: A setting of each network namespace of its own, which nothing here depends on.
NAME = "net.ipv4.ip_default_ttl"


@pytest.fixture
def plain(bare: Node) -> Iterator[Node]:
    bare.run(["sysctl", "-q", "-w", f"{NAME}=64"])
    bare.remove(FILE)
    yield bare
    bare.run(["sysctl", "-q", "-w", f"{NAME}=64"])
    bare.remove(FILE)


def now(node: Node) -> str:
    return node.run(["sysctl", "-n", NAME]).stdout.strip()


def wanted(value: str, name: str = NAME) -> str:
    return json.dumps([[{name: value}], {}])


def test_it_is_set_kept_and_then_left_alone(plain: Node, operate: Operate) -> None:
    plain.write(FILE, "-net.ipv4.tcp_syncookies = 1\n-net.ipv4.ip_default_ttl = 9\n")
    before = plain.read(FILE)
    planned = operate("sysctl.settings", wanted("63"), dry=True)
    assert f"{NAME}: 64 -> 63" in planned.stderr
    assert (now(plain), plain.read(FILE)) == ("64", before)
    assert plain.run(["test", "-e", "/var/lib/dnsmend"], check=False).returncode == 1
    done = operate("sysctl.settings", wanted("63"))
    assert done.returncode == 0, done.stderr
    assert now(plain) == "63"
    assert [line for line in plain.read(FILE).splitlines() if not line.startswith("#")] == [
        "-net.ipv4.tcp_syncookies = 1",
        f"-{NAME} = 63",
    ]
    plain.run(["sysctl", "-q", "-w", f"{NAME}=64"])
    plain.run(["sysctl", "-q", "-p", FILE])
    assert now(plain) == "63"
    again = operate("sysctl.settings", wanted("63"))
    assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]


def run_of(node: Node) -> str:
    (run,) = node.run(["ls", "/var/lib/dnsmend"]).stdout.split()
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", run)
    return run


def test_it_is_taken_back(plain: Node, operate: Operate, pyinfra: Run) -> None:
    assert operate("sysctl.settings", wanted("63")).returncode == 0
    undo = ("-y", "--limit", plain.name, "inventory", "deploys/undo.py", "--data", f"run={run_of(plain)}")
    done = pyinfra(*undo)
    assert done.returncode == 0, done.stderr
    assert now(plain) == "64"
    assert plain.run(["test", "-e", FILE], check=False).returncode == 1


def test_what_somebody_else_has_set_since_stays(plain: Node, operate: Operate, pyinfra: Run) -> None:
    assert operate("sysctl.settings", wanted("63")).returncode == 0
    plain.run(["sysctl", "-q", "-w", f"{NAME}=55"])
    undo = ("-y", "--limit", plain.name, "inventory", "deploys/undo.py", "--data", f"run={run_of(plain)}")
    done = pyinfra(*undo)
    assert done.returncode == 1
    assert f"{NAME} has changed since run" in done.stderr
    assert now(plain) == "55"


RANGE = "net.ipv4.ip_local_port_range"


def test_a_setting_of_several_words_is_set_left_alone_and_taken_back(
    plain: Node, operate: Operate, pyinfra: Run
) -> None:
    """The kernel has a tab between them, and people write a space."""
    before = plain.run(["sysctl", "-n", RANGE]).stdout
    assert before.split() != ["30000", "60999"]
    try:
        done = operate("sysctl.settings", wanted("30000 60999", RANGE))
        assert done.returncode == 0, done.stderr
        assert plain.run(["sysctl", "-n", RANGE]).stdout == "30000\t60999\n"
        again = operate("sysctl.settings", wanted(" 30000  60999", RANGE))
        assert again.returncode == 0 and "Success" not in again.stderr.split("--> Results:")[0]
        undo = ("-y", "--limit", plain.name, "inventory", "deploys/undo.py", "--data", f"run={run_of(plain)}")
        assert pyinfra(*undo).returncode == 0
        assert plain.run(["sysctl", "-n", RANGE]).stdout == before
    finally:
        plain.run(["sysctl", "-q", "-w", f"{RANGE}={before.strip()}"])


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("/etc/sysctl.d/99-hardening.conf", f"{NAME}=32"),
        ("/etc/sysctl.conf", f"-{NAME.replace('.', '/')} = 32"),
        ("/run/sysctl.d/91-image.conf", f"  {NAME}=63\n{NAME} = 32"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_another_file_sets_otherwise_at_boot_is_named(
    plain: Node, operate: Operate, file: str, line: str, dry: bool
) -> None:
    """/etc/sysctl.conf is read at boot because 99-sysctl.conf leads to it."""
    old = plain.read(file) if plain.run(["test", "-e", file], check=False).returncode == 0 else None
    plain.write(file, f"# CIS\n\n{line}\n")
    read = "/etc/sysctl.d/99-sysctl.conf" if file == "/etc/sysctl.conf" else file
    number = 2 + len(line.splitlines())
    try:
        done = operate("sysctl.settings", wanted("63"), dry=dry)
        assert done.returncode == (0 if dry else 1)
        if not dry:
            assert f"refused: {read}:{number} sets {NAME} = 32 at every boot, after {FILE}" in done.stderr
        assert now(plain) == "64"
        assert plain.run(["test", "-e", FILE], check=False).returncode == 1
        assert plain.run(["test", "-e", "/var/lib/dnsmend"], check=False).returncode == 1
        # A boot would do so.
        plain.write(FILE, f"-{NAME} = 63\n")
        plain.run(["/lib/systemd/systemd-sysctl"], check=False)
        assert now(plain) == "32"
    finally:
        plain.remove(file) if old is None else plain.write(file, old)


def test_what_other_files_set_in_vain_at_boot_stands_in_no_way(plain: Node, operate: Operate) -> None:
    """Earlier by name, hidden by a file of /etc, a comment, a pattern, or no .conf."""
    files = {
        "/etc/sysctl.d/89-before.conf": f"{NAME} = 32",
        "/usr/lib/sysctl.d/98-hidden.conf": f"{NAME} = 32",
        "/etc/sysctl.d/98-hidden.conf": "# nothing",
        "/etc/sysctl.d/99-other.conf": f"#{NAME} = 32\nnet.ipv4.ip_default_* = 32",
        "/etc/sysctl.d/99-no-conf": f"{NAME} = 32",
    }
    for file, text in files.items():
        plain.write(file, f"{text}\n")
    try:
        done = operate("sysctl.settings", wanted("63"))
        assert done.returncode == 0, done.stderr
        # As a boot does it.
        plain.run(["sysctl", "-q", "-w", f"{NAME}=64"])
        plain.run(["/lib/systemd/systemd-sysctl"], check=False)
        assert now(plain) == "63"
    finally:
        plain.remove(*files)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("net.ipv4.no_such_setting", "1", "refused: this kernel has no net.ipv4.no_such_setting"),
        ("net.ipv4.x; reboot", "1", "is no name of a kernel setting"),
        (NAME, "9999", f"the kernel does not accept {NAME}=9999; everything is as it was"),
    ],
)
def test_what_cannot_be_set_is_refused(plain: Node, operate: Operate, name: str, value: str, reason: str) -> None:
    done = operate("sysctl.settings", wanted(value, name))
    assert done.returncode == 1
    assert reason in done.stderr
    assert now(plain) == "64"
    assert plain.run(["test", "-e", FILE], check=False).returncode == 1
