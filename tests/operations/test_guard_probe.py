"""Which process the probe takes for a DNS pod's, on a /proc that is made for it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from operations.guard_files import render
from probes.guard import Asked
from probes.probe import probe

ASKED = [Asked(stage, probe("172.25.4.1", "version.bind", "TXT", rdclass="CH")) for stage in ("vip", "pod")]
NODE, POD, OTHER_POD = "net:[1]", "net:[2]", "net:[3]"


def found(folder: Path, processes: Mapping[int, tuple[str, str]]) -> str:
    """The number that is found, of processes with their names and network namespaces."""
    files = render(ASKED, None, ["coredns", "kube-dns", "my-dns", "unbound"], "report", "/metrics", [], [])
    (script,) = (file.text for file in files.files if file.path.endswith("/probe"))
    for number, (name, netns) in [("self", ("sh", NODE)), *processes.items()]:
        (folder / f"{number}/ns").mkdir(parents=True)
        (folder / f"{number}/comm").write_text(f"{name}\n")
        (folder / f"{number}/ns/net").symlink_to(netns)
    function = script[script.index("dns_pod() {") :]
    function = function[: function.index("\n}\n") + 3].replace("/proc/", f"{folder}/")
    done = subprocess.run(["sh", "-uc", f"{function}dns_pod"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("processes", "pid"),
    [
        ({}, ""),
        ({10: ("coredns", POD)}, "10"),
        ({10: ("unbound", POD), 20: ("coredns", OTHER_POD)}, "20"),
        ({10: ("coredns", POD), 20: ("unbound", OTHER_POD)}, "10"),
        ({10: ("coredns", NODE), 20: ("unbound", OTHER_POD)}, "20"),
        ({10: ("unbound", NODE), 20: ("my-dns", POD), 30: ("unbound", OTHER_POD)}, "20"),
        ({10: ("nginx", POD), 20: ("dnsmasq", NODE)}, ""),
    ],
)
def test_coredns_comes_before_any_other(tmp_path: Path, processes: dict[int, tuple[str, str]], pid: str) -> None:
    assert found(tmp_path, processes) == pid
