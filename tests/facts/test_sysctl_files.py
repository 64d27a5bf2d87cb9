"""What is set at boot, as a node tells it: which file counts last, and how a name may be written."""

import subprocess
from pathlib import Path

import pytest

from facts.sysctl_files import SysctlFiles
from models.kernel_settings import CONNTRACK_MAXIMUM, overruled

FORWARD = "net.ipv4.ip_forward"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("net.ipv4.ip_forward=0", FORWARD, "0"),
        ("  -net/ipv4/ip_forward = 0 ", FORWARD, "0"),
        ("/net/ipv4/ip_forward =0", FORWARD, "0"),
        ("net/ipv4/conf/bond0.12/rp_filter = 1", "net.ipv4.conf.bond0/12.rp_filter", "1"),
        ("net.ipv4.conf.bond0/12.rp_filter = 1", "net.ipv4.conf.bond0/12.rp_filter", "1"),
        ("net.ipv4.ip_local_port_range = 32768\t60999", "net.ipv4.ip_local_port_range", "32768\t60999"),
    ],
)
def test_a_line(line: str, name: str, value: str) -> None:
    file = "/etc/sysctl.d/99-sysctl.conf"
    assert SysctlFiles().read([f"file {file}", f"28 {line}"]) == [
        {"name": name, "value": value, "file": file, "line": 28}
    ]


def test_the_last_file_by_name_counts_whatever_its_folder() -> None:
    told = SysctlFiles().read(
        [
            *("file /etc/sysctl.d/95-a.conf", f"1 {FORWARD} = 0", f"2 {FORWARD} = 1"),
            *("file /etc/sysctl.d/60-b.conf", f"1 {FORWARD} = 0"),
            *("file /usr/lib/sysctl.d/99-c.conf", f"7 {FORWARD} = 0"),
        ]
    )
    assert [each["file"][-9:] for each in told] == ["60-b.conf", "95-a.conf", "95-a.conf", "99-c.conf"]
    own, wanted = "/etc/sysctl.d/90-dnsmend.conf", {FORWARD: "1", "net.ipv4.conf.all.rp_filter": "0"}
    assert [(each["file"], each["line"]) for each in overruled(told, own, wanted)] == [
        ("/usr/lib/sysctl.d/99-c.conf", 7)
    ]
    assert overruled(told[:-1], own, wanted) == []
    assert overruled(told, own, {FORWARD: " 0"}) == []
    assert overruled(told, "/etc/sysctl.d/99-own.conf", wanted) == []


@pytest.mark.parametrize(("value", "named"), [("65536", 1), ("262144", 0), ("524288", 0), ("0x80000", 1)])
def test_more_room_for_tracked_connections_is_well(value: str, named: int) -> None:
    told = SysctlFiles().read(["file /etc/sysctl.d/99-k8s.conf", f"1 {CONNTRACK_MAXIMUM} = {value}"])
    assert len(overruled(told, "/etc/sysctl.d/90-dnsmend.conf", {CONNTRACK_MAXIMUM: "262144"})) == named


def test_files_of_this_machine(tmp_path: Path) -> None:
    """The script itself, with folders in the place of the node's."""
    texts = {
        "etc/90-a.conf": "# no = 1\n\n; nor = 2\nnet.ipv4.ip_forward = 1\n",
        "lib/90-a.conf": "net.ipv4.ip_forward = 0\n",
        "lib/91-b.conf": "net.ipv4.ip_forward = 0\nalone\n",
        "lib/92-c.conf": "net.ipv4.ip_forward = 0\n",
        "lib/93-d.txt": "net.ipv4.ip_forward = 0\n",
    }
    for name, text in texts.items():
        folder, file = name.split("/")
        (tmp_path / folder / "sysctl.d").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "sysctl.d" / file).write_text(text)
    (tmp_path / "etc" / "sysctl.d" / "92-c.conf").symlink_to("/dev/null")
    fact = SysctlFiles()
    folders = "/etc /run /usr/local/lib /usr/lib /lib"
    assert folders in fact.script
    fact.script = fact.script.replace(folders, f"{tmp_path}/etc {tmp_path}/none {tmp_path}/lib")
    done = subprocess.run(["sh", "-c", fact.command()], capture_output=True, text=True, check=True)
    reading = fact.process(done.stdout.splitlines())
    assert reading["state"] == "value", reading
    assert [(Path(each["file"]).name, each["line"], each["value"]) for each in reading["value"]] == [
        ("90-a.conf", 4, "1"),
        ("91-b.conf", 1, "0"),
    ]
