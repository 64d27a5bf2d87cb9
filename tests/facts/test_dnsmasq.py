"""What a node sends about its dnsmasq, as its shell spells it."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from facts.dnsmasq import Dnsmasq, DnsmasqInstances
from models.dnsmasq_edits import managed_path

#: What begins a line that tells of a path; a line without a space is a file's content.
SENT = ("dir", "entry", "file", "missing", "unreadable", "large")


def line(kind: str, path: str, text: str, inode: int = 1) -> list[str]:
    return [f"{kind} 644 0 0 1790000000 2049:{inode} {path}", base64.b64encode(text.encode()).decode()]


def read(*lines: str, argv: str = "dnsmasq") -> Dnsmasq:
    sent = base64.b64encode(b"".join(word.encode() + b"\0" for word in argv.split())).decode()
    return DnsmasqInstances().read(
        [f"process 412 1 500 net:[1] dnsmasq.service {sent}", "host net:[1] 100 1790000000", *lines, "version 2.90"]
    )


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
