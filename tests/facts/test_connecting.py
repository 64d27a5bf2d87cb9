"""Which connections are tried again, and what a run may hold open; with a real sshd that takes few at a time."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paramiko import SSHException
from paramiko.ssh_exception import ChannelException, NoValidConnectionsError

from facts import connecting
from facts.connecting import FILES, cut_off
from lab import host, keys, network
from lab.api import Lab
from tests.conftest import ROOT, Run

BASTION, NODE = "198.18.53.10", "198.18.53.11"
NAMES = [f"through-{number}" for number in range(30)]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (EOFError(), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (SSHException("Error reading SSH protocol banner[Errno 104] Connection reset by peer"), True),
        (NoValidConnectionsError({("192.0.2.1", 22): ConnectionRefusedError()}), False),
        (TimeoutError("timed out"), False),
        (SSHException("StrictPolicy: No host key for 192.0.2.1 found in known_hosts"), False),
        (ChannelException(2, "Connect failed"), False),
    ],
)
def test_only_a_server_that_has_hung_up_is_tried_again(error: Exception, again: bool) -> None:
    assert cut_off(error) is again


def test_a_run_may_open_as_many_files_as_the_system_allows() -> None:
    """A shell gives 1024; in a process of its own, since a limit that is lowered here stays so."""
    script = (
        "import resource as r; _, most = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (256, most));"
        "from facts import connecting; connecting.install(); print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(done.stdout) == (FILES if most == resource.RLIM_INFINITY else min(FILES, most))


@pytest.mark.parametrize(("allows", "soft", "given"), [(12288, 256, 10240), (0, 256, 256), (65536, 256, 65536)])
def test_a_system_that_allows_fewer_than_it_says(
    monkeypatch: pytest.MonkeyPatch, allows: int, soft: int, given: int
) -> None:
    """As macOS: the hard limit is infinite, and what is above kern.maxfilesperproc is EINVAL."""
    limits = (soft, resource.RLIM_INFINITY)

    def set_limit(_: int, wanted: tuple[int, int]) -> None:
        nonlocal limits
        if wanted[0] > allows:
            raise ValueError("current limit exceeds maximum limit")
        limits = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    connecting._allow_files()
    assert limits == (given, resource.RLIM_INFINITY)


@pytest.mark.parametrize("soft", [resource.RLIM_INFINITY, 10**6])
def test_a_limit_that_is_high_already_stays(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    def set_limit(_: int, wanted: tuple[int, int]) -> None:
        raise AssertionError(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    connecting._allow_files()


@pytest.mark.lab
@pytest.mark.parametrize("bastion", [False, True], ids=["direct", "behind-a-bastion"])
def test_a_node_that_falls_silent_is_given_up(healed: Lab, tmp_path: Path, bastion: bool) -> None:
    """Its cable is pulled while it runs a command: no reset comes, and the run would wait for ever.

    Behind a bastion the connection that has died is not ours: the bastion's kernel keeps it for some 15 minutes.
    """
    node, port = healed.node("node-1"), "mgmt-node-1"
    link = [*network.enter(network.LAN), "ip", "link", "set", port]
    script = (
        "import sys; from facts import connecting; connecting.SILENT, connecting.SIGN = 6, 2;"
        "from pyinfra_cli.main import main; sys.argv[1:] = sys.argv[2:]; main()"
    )
    where = [str(_inventory(tmp_path, [node.name], 22))] if bastion else ["--limit", node.name, "inventory"]
    with subprocess.Popen(
        [sys.executable, "-c", script, "-", "-y", *where, "exec", "--", "sleep 4711"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as run:
        try:
            deadline = time.monotonic() + 60
            while node.run(["pgrep", "-xf", "sleep 4711"], check=False).returncode and time.monotonic() < deadline:
                time.sleep(0.1)
            # Longer than a silent node is waited for: this one answers, in SSH only.
            time.sleep(12)
            assert run.poll() is None
            host.run([*link, "nomaster"])
            said, _ = run.communicate(timeout=90)
        finally:
            host.run([*link, "master", "br-mgmt"])
            run.kill()
            node.run(["pkill", "-xf", "sleep 4711"], check=False)
    assert run.returncode == 1, said
    assert f"[{node.name}] Error" in said


@pytest.mark.lab
def test_a_storm_through_a_bastion_is_weathered(healed: Lab, pyinfra: Run, tmp_path: Path) -> None:
    """30 connections at once through a real sshd on node-0 that drops half of them from the fourth on."""
    bastion = healed.node("node-0")
    # sshd takes the last MaxStartups that it reads: an option would lose against the file.
    bastion.run(["sh", "-c", "{ cat /etc/ssh/sshd_config; echo MaxStartups 3:50:6; } > /run/bastion.conf"])
    bastion.run(["/usr/sbin/sshd", "-f", "/run/bastion.conf", "-p", "2200", "-o", "PidFile=/run/bastion.pid"])
    try:
        assert _storm(tmp_path, pyinfra, 8) == len(NAMES)
        # The bastion does what it is here for: without another try most are lost (24 of 30).
        assert _storm(tmp_path, pyinfra, 0) < len(NAMES)
    finally:
        bastion.run(["sh", "-c", "kill $(cat /run/bastion.pid); rm -f /run/bastion.conf"])


def _storm(folder: Path, pyinfra: Run, retries: int) -> int:
    """How many are connected in the end."""
    inventory = _inventory(folder, NAMES, 2200, ssh_connect_retries=retries)
    log = pyinfra("-y", str(inventory), "exec", "--", "true", timeout=300).stderr
    return len(re.findall(r"\] +Connected", log))


def _inventory(folder: Path, names: list[str], port: int, **further: int) -> Path:
    """Nodes that are all node-1, behind an sshd on a port of node-0; further: more data of theirs."""
    known, key = folder / "known_hosts", keys.known_hosts().parent / "id_ed25519"
    lines = keys.known_hosts().read_text().splitlines()
    public = next(line.split(" ", 1)[1] for line in lines if line.startswith("node-0,"))
    known.write_text("\n".join([*lines, f"[{BASTION}]:{port} {public}"]) + "\n")
    config = folder / "config"
    config.write_text(
        f"Host {BASTION}\n  User ops\n  Port {port}\n  IdentityFile {key}\n  UserKnownHostsFile {known}\n"
        f"  StrictHostKeyChecking yes\nHost {NODE}\n  ProxyJump {BASTION}\n"
    )
    data = {
        "ssh_hostname": NODE,
        "ssh_user": "ops",
        "ssh_key": str(key),
        "ssh_known_hosts_file": str(known),
        "ssh_config_file": str(config),
        **further,
    }
    inventory = folder / "many.py"
    inventory.write_text(f"nodes = [(name, {data!r}) for name in {names!r}]\n")
    return inventory
