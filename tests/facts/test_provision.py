"""What a node brings along: parsed, read on this machine and on the lab's nodes, and nothing written meanwhile."""

from __future__ import annotations

import subprocess

import pytest

from facts.provision import MODULES, Provision
from tests.facts.test_no_side_effects import modules, written

LINES = [
    "clock 1795219200.5",
    "keeper chronyd",
    "said Normal",
    "tool iptables /usr/sbin/iptables",
    "module ip_vs on disk",
    "module br_netfilter built in",
]


def read(*changed: str) -> dict[str, object]:
    words = {line.split()[0] for line in changed}
    value = Provision().read([*(line for line in LINES if line.split()[0] not in words), *changed])
    assert value is not None
    return dict(value)


def test_a_node() -> None:
    assert read() == {
        "clock": 1795219200.5,
        "keeper": "chronyd",
        "synchronised": True,
        "said": "Normal",
        "tools": {"iptables": "/usr/sbin/iptables"},
        "modules": {"ip_vs": "on disk", "br_netfilter": "built in"},
    }


@pytest.mark.parametrize(
    ("keeper", "said", "synchronised"),
    [
        ("chronyd", "Not synchronised", False),
        ("chronyd", "", None),
        ("ntpd", "leap_none", True),
        ("ntpd", "leap_alarm", False),
        ("systemd-timesyn", "synchronized", True),
        ("systemd-timesyn", "never", False),
        ("phc2sys", "", None),
        ("", "", None),
    ],
)
def test_what_the_daemons_say(keeper: str, said: str, synchronised: bool | None) -> None:
    assert read(f"keeper {keeper}", f"said {said}")["synchronised"] is synchronised


@pytest.mark.parametrize("line", ["clock soon", "module ip_vs perhaps"])
def test_other_words_are_a_failure(line: str) -> None:
    reading = Provision().reading({"output": [*LINES[1:], line], "errors": [], "code": 0})
    assert (reading["state"], reading["value"]) == ("failed", None)


def test_this_machine_is_read_and_nothing_is_written() -> None:
    fact = Provision()
    before = modules()
    said, paths = written(fact.command())
    value = fact.process(said.splitlines())["value"]
    assert value is not None and value["clock"] > 1.7e9
    assert set(value["modules"]) == set(MODULES)
    assert (paths, modules()) == ([], before)


# chronyc and the files of a kernel's modules, stood in for: neither is on the machine that runs the tests.
STAND_INS = r"""
mkdir -p /mnt/bin /mnt/lib
cp "$(command -v sleep)" /mnt/bin/chronyd
printf '#!/bin/sh\n[ "$*" != "-h 127.0.0.1 -n -c tracking" ] || echo 0,,0,0,0,0,0,0,0,0,0,0,0,$LEAP\n' >/mnt/bin/chronyc
chmod +x /mnt/bin/chronyc
mkdir -p "/mnt/lib/modules/$(uname -r)" /mnt/work
printf 'kernel/net/netfilter/ipvs/ip_vs.ko.xz:\nkernel/net/netfilter/ipvs/ip_vs_rr.ko: x\n' \
    >"/mnt/lib/modules/$(uname -r)/modules.dep"
mount -t overlay none -o lowerdir=/usr/lib,upperdir=/mnt/lib,workdir=/mnt/work /usr/lib
mount -t proc proc /proc
/mnt/bin/chronyd 60 &
PATH="/mnt/bin:$PATH"
sh -c "$1"
"""


@pytest.mark.parametrize(("leap", "synchronised"), [("Normal", True), ("Not synchronised", False)])
def test_a_clock_that_is_kept_and_modules_on_disk(leap: str, synchronised: bool) -> None:
    script = f"mount -t tmpfs none /mnt\nexport LEAP='{leap}'{STAND_INS}"
    shell = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation=private",
        "sh",
        "-ec",
        script,
        "sh",
    ]
    done = subprocess.run([*shell, Provision().command()], capture_output=True, text=True, check=True)
    value = Provision().process(done.stdout.splitlines())["value"]
    assert value is not None
    assert (value["keeper"], value["said"], value["synchronised"]) == ("chronyd", leap, synchronised)
    assert (value["modules"]["ip_vs"], value["modules"]["ip_vs_rr"]) == ("on disk", "on disk")
    assert value["modules"]["ip_vs_sh"] == "missing"
