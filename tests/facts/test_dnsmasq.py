"""What a node sends about its dnsmasq, as its shell spells it."""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from facts.dnsmasq import Dnsmasq, DnsmasqInstances
from models.dnsmasq_edits import managed_path

#: What begins a line that tells of a path; a line without a space is a file's content.
SENT = ("dir", "entry", "file", "missing", "unreadable", "large", "list")


def line(kind: str, path: str, text: str, inode: int = 1) -> list[str]:
    return [f"{kind} 644 0 0 1790000000 2049:{inode} {path}", base64.b64encode(text.encode()).decode()]


def read(*lines: str, argv: str = "dnsmasq") -> Dnsmasq:
    sent = base64.b64encode(b"".join(word.encode() + b"\0" for word in argv.split())).decode()
    return DnsmasqInstances().read(
        [f"process 412 1 500 net:[1] dnsmasq.service {sent}", "host net:[1] 100 1790000000", *lines, "version 2.90"]
    )


@pytest.fixture
def dnsmasq_test() -> list[str]:
    found = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        pytest.fail("dnsmasq is not installed: apt-get install dnsmasq-base")
    return [found, "--test"]


@pytest.mark.parametrize("given", ["/etc/dnsmasq.d/", "/etc//dnsmasq.d", "/etc/./dnsmasq.d/.", "//etc/dnsmasq.d//"])
def test_a_folder_is_found_however_it_is_written(given: str) -> None:
    found = read(
        *line("file", "/etc/dnsmasq.conf", f"conf-dir={given},*.conf\n", 1),
        f"dir {given}",
        "entry file a.conf",
        "entry other run",
        *line("file", f"{given}/a.conf", "except-interface=cilium_*\n", 2),
    )
    (instance,) = found["instances"]
    assert instance["error"] is None
    assert instance["files"] == ["/etc/dnsmasq.conf", "/etc/dnsmasq.d/a.conf"]
    assert [option["file"] for option in instance["options"]] == ["/etc/dnsmasq.conf", "/etc/dnsmasq.d/a.conf"]
    assert found["files"]["/etc/dnsmasq.d/a.conf"]["path"] == "/etc/dnsmasq.d/a.conf"
    assert found["owners"]["/etc/dnsmasq.d/a.conf"]["mode"] == "644"
    assert managed_path(instance["argv"], found["files"]) == "/etc/dnsmasq.d/dnsmend.conf"


@pytest.mark.parametrize("option", ["conf-file", "servers-file"])
def test_a_file_is_found_however_it_is_written(option: str) -> None:
    found = read(
        *line("file", "/etc/dnsmasq.conf", f"{option}=/srv/./dns//servers\n", 1),
        *line("file", "/srv/./dns//servers", "server=192.0.2.1\n", 2),
    )
    (instance,) = found["instances"]
    assert instance["error"] is None and instance["files"][-1] == "/srv/dns/servers"
    assert instance["options"][-1]["value"] == "192.0.2.1"


def test_a_file_with_a_slash_behind_its_name_hides_no_file() -> None:
    found = read(*line("file", "/etc/dnsmasq.conf", "port=53\n"), "missing /etc/dnsmasq.conf/")
    assert found["files"]["/etc/dnsmasq.conf"]["kind"] == "file"


def test_a_relative_path_was_looked_for_elsewhere() -> None:
    found = read(*line("file", "/etc/dnsmasq.conf", "conf-file=more\n"), "missing more")
    error = found["instances"][0]["error"]
    assert error and error["message"] == "not sent by the node: /more"


def test_a_node_sends_what_its_main_file_names(tmp_path: Path) -> None:
    """The script itself, with another file in the place of /etc/dnsmasq.conf."""
    if os.geteuid() != 0:
        pytest.fail("the script reads as root only: run it as root")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.conf").write_text(f"conf-file={tmp_path}/./more\n")
    (tmp_path / "more").write_text("server=192.0.2.1\n")
    (tmp_path / "main").write_text(f"conf-dir={tmp_path}/d/,*.conf\n")
    # Others may read what dnsmasq may.
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    script = DnsmasqInstances.script.replace("/etc/dnsmasq.conf", f"{tmp_path}/main")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    sent = [line for line in done.stdout.splitlines() if line.partition(" ")[0] in SENT or " " not in line]
    (instance,) = read(*sent, argv=f"dnsmasq -C {tmp_path}/main")["instances"]
    assert instance["error"] is None, done
    assert [Path(file).name for file in instance["files"]] == ["main", "a.conf", "more"]
    assert instance["options"][-1]["value"] == "192.0.2.1"


LARGE = "".join(f"address=/blocked-{number}.example.com/0.0.0.0\n" for number in range(9000))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("# a list\r", "list"),
        ("  # of names\t", "list"),
        ("", "list"),
        ("server=/a.example.com/b.example.com/114.114.114.114#53", "list"),
        ("local=/a.example.com/", "list"),
        ("address=/a.example.com/#", "list"),
        ("address=/a.example.com/::", "list"),
        ("nftset=/a.example.com/4#inet#fw4#away,6#inet#fw4#away6\r", "list"),
        ("ipset=/a.example.com/away", "list"),
        ("server=114.114.114.114", "large"),
        ("address=/#/0.0.0.0", "large"),
        ("address=/a.example.com/0.0.0.256", "large"),
        ("local=/a.example.com", "large"),
        ("except-interface=cilium_*", "large"),
        ("conf-file=/etc/shadow", "large"),
        ("nonsense", "large"),
        ("#" * 1024 + "nonsense", "large"),
        ('address=/a.example.com/0.0.0.0 "', "large"),
    ],
)
def test_a_large_list_of_names_is_known_for_one(line: str, kind: str, tmp_path: Path, dnsmasq_test: list[str]) -> None:
    """The script itself; and what it takes for a list dnsmasq takes, too."""
    if os.geteuid() != 0:
        pytest.fail("the script reads as root only: run it as root")
    path = tmp_path / "names"
    path.write_text(f"{LARGE}{line}\n")
    for each in (tmp_path, path):
        each.chmod(0o755)
    (tmp_path / "main").write_text(f"except-interface=lo\nconf-file={path}\nbind-dynamic\n")
    (tmp_path / "main").chmod(0o644)
    script = DnsmasqInstances.script.replace("/etc/dnsmasq.conf", f"{tmp_path}/main")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert f"{kind} {path}" in done.stdout.splitlines(), done
    sent = [line for line in done.stdout.splitlines() if line.partition(" ")[0] in SENT or " " not in line]
    (instance,) = read(*sent, argv=f"dnsmasq -C {tmp_path}/main")["instances"]
    assert (instance["error"] is None) == (kind == "list")
    assert [option["name"] for option in instance["options"]][-2:] == ["conf-file", "bind-dynamic"]
    if kind == "list":
        # What is written behind everything else goes into the file that was sent.
        assert instance["files"] == [f"{tmp_path}/main"]
        subprocess.run([*dnsmasq_test, "-C", f"{tmp_path}/main"], check=True, capture_output=True)


def test_lists_of_names_are_looked_into_up_to_a_bound(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("the script reads as root only: run it as root")
    for number in range(3):
        (tmp_path / f"names-{number}").write_text(LARGE * 40)
    (tmp_path / "main").write_text("".join(f"conf-file={tmp_path}/names-{number}\n" for number in range(3)))
    for each in (tmp_path, *tmp_path.iterdir()):
        each.chmod(0o755)
    script = DnsmasqInstances.script.replace("/etc/dnsmasq.conf", f"{tmp_path}/main")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    kinds = [line.split()[0] for line in done.stdout.splitlines() if "/names-" in line and " " in line]
    assert kinds == ["list", "list", "large"]
