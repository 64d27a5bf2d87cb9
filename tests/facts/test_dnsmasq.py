"""What a node sends about its dnsmasq, as its shell spells it."""

import base64

import pytest

from facts.dnsmasq import Dnsmasq, DnsmasqInstances
from models.dnsmasq_edits import managed_path


def line(kind: str, path: str, text: str, inode: int = 1) -> list[str]:
    return [f"{kind} 644 0 0 1790000000 2049:{inode} {path}", base64.b64encode(text.encode()).decode()]


def read(*lines: str) -> Dnsmasq:
    argv = base64.b64encode(b"/usr/sbin/dnsmasq\0").decode()
    return DnsmasqInstances().read(
        [f"process 412 1 500 net:[1] dnsmasq.service {argv}", "host net:[1] 100 1790000000", *lines, "version 2.90"]
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
