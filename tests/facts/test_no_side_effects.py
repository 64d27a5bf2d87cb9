"""Reading a node changes nothing on it: no file is written, not even for a moment, and no kernel module is loaded."""

import os
import subprocess
from pathlib import Path

import pytest

from facts.image_iptables import ImageIptables
from facts.interfaces import Interfaces
from facts.neighbours import NeighbourTables
from facts.networkd import Networkd
from facts.nft_hooks import NftHooks
from facts.pods import Pods
from facts.resolver import ResolvConf, Resolved
from facts.routes import Routes, RouteTo
from facts.sockets import ListeningSockets
from facts.system import System
from facts.udp import Udp
from facts.units import Units

FACTS = (
    *(ListeningSockets(), Interfaces(), Routes(), ResolvConf(), Resolved(), System(), Units(), Pods()),
    *(NeighbourTables(), Networkd(), NftHooks(), Udp(), ImageIptables()),
)
COMMANDS = {fact.name: fact.command() for fact in FACTS} | {RouteTo.name: RouteTo().command("172.25.4.1")}

# In a mount namespace of its own, every write to these folders lands in an empty upper folder of an overlay. A file
# that was removed again leaves its folder's time behind. No other process can disturb the comparison.
CAUGHT = r"""
mount -t tmpfs none /mnt
for folder in etc run var tmp; do
    mkdir -p /mnt/$folder/upper /mnt/$folder/work
    mount -t overlay none -o lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work /$folder
done
touch /mnt/start
sleep 0.02
sh -c "$1"
echo "@written"
find /mnt/*/upper -newer /mnt/start
"""


def written(command: str) -> tuple[str, list[str]]:
    """The command's output, and the paths that it wrote."""
    if os.geteuid() != 0:
        pytest.fail("this test mounts overlays in a namespace: run it as root")
    run = ["unshare", "--mount", "--propagation=private", "sh", "-ec", CAUGHT, "sh", command]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    said, _, paths = output.partition("@written\n")
    return said, paths.splitlines()


def modules() -> set[str]:
    """The names of the loaded modules; none on a kernel without modules."""
    listed = Path("/proc/modules")
    return {line.split()[0] for line in listed.read_text().splitlines()} if listed.exists() else set()


@pytest.mark.parametrize("name", COMMANDS)
def test_reading_writes_nothing(name: str) -> None:
    before = modules()
    said, paths = written(COMMANDS[name])
    assert "!@code " in said
    assert paths == []
    assert modules() == before


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("touch /etc/new", "/mnt/etc/upper/new"),
        ("echo x >>/etc/hostname", "/mnt/etc/upper/hostname"),
        ("touch /tmp/dnsmend-new; rm /tmp/dnsmend-new", "/mnt/tmp/upper"),
        ("mkdir /var/tmp/new; rmdir /var/tmp/new", "/mnt/var/upper/tmp"),
    ],
)
def test_a_write_would_be_seen(command: str, path: str) -> None:
    assert path in written(command)[1]
