"""Starting and ending the nspawn machines.

A machine's overlay is mounted in a mount namespace of its own, so the machine's mount table never shows it and it goes
away with the last process, however that ends. Each machine has its own control group: systemd inside manages that
tree, and every process of the machine is found there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab import cgroups, host, network
from lab.host import LabError
from lab.state import Machine, Process, State

_STARTER = Path(__file__).with_name("start-machine.sh")

# $1 control groups, one per line; the rest is the command.
_JOIN_GROUPS = 'for group in $1; do echo $$ >"$group/cgroup.procs"; done; shift; exec "$@"'

_recording = threading.Lock()


def directory(name: str) -> Path:
    """The machine's directory: `upper` (its own files), `work`, `merged` (mount point), `console.log`."""
    return host.state_dir() / "machines" / name


def prepare(name: str) -> Path:
    """Make the machine's directories and return `upper`, for files to be written before it starts."""
    for part in ("upper", "work", "merged"):
        (directory(name) / part).mkdir(parents=True, exist_ok=True)
        # The root's own mode, which `upper` overrides.
        (directory(name) / part).chmod(0o755)
    return directory(name) / "upper"


def start(state: State, name: str, *, command: Sequence[str] = ()) -> Machine:
    """Start the machine `name` in the network namespace of that name, and record it.

    Without `command` Debian's systemd boots; with it, that program is run instead, with a stub as PID 1.
    Raises LabError if it ends at once.
    """
    here = directory(name)
    nspawn = [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        "--suppress-sync=yes",
        # Not in the default set when the namespace is given by its path.
        "--capability=CAP_NET_ADMIN",
        f"--machine=dnsmend-{name}",
        f"--hostname={name}",
        f"--directory={here / 'merged'}",
        f"--network-namespace-path={network.namespace(name)}",
    ]
    nspawn += ["--as-pid2", *command] if command else ["--boot"]
    overlay = [state.root, str(here / "upper"), str(here / "work"), str(here / "merged")]
    groups = [] if host.has_systemd() else [str(group) for group in cgroups.make(name)]
    isolated = ["unshare", "--mount", "--propagation=private"]
    argv = [*isolated, "sh", str(_STARTER), "\n".join(groups), *overlay, *nspawn]
    supervisor = _start_unit(name, argv) if host.has_systemd() else _start_process(here, argv)
    machine = Machine(supervisor)
    state.machines[name] = machine
    state.save()
    machine.leader = _wait_for_leader(name, supervisor)
    state.save()
    return machine


def run_program(state: State, name: str, argv: Sequence[str]) -> Machine:
    """Start a program of this machine in the background, as the lab's machine `name`, and record it.

    Raises LabError if it ends at once.
    """
    here = directory(name)
    here.mkdir(parents=True, exist_ok=True)
    groups = [] if host.has_systemd() else [str(group) for group in cgroups.make(name)]
    joined = ["sh", "-euc", _JOIN_GROUPS, "sh", "\n".join(groups), *argv]
    process = _start_unit(name, joined) if host.has_systemd() else _start_process(here, joined)
    started = Machine(process, process)
    # Virtual machines are started side by side.
    with _recording:
        state.machines[name] = started
        state.save()
    return started


def end(state: State, *names: str) -> None:
    """End single machines of a running lab; one that is not there is fine. Raises LabError if one does not end."""
    found = [state.machines[name].supervisor for name in names if name in state.machines]
    patience, deadline = time.monotonic() + 3, time.monotonic() + 15
    while remaining := [process for process in found if process.alive()]:
        for process in remaining:
            # Asked first: what writes to disk is then whole.
            os.kill(process.pid, signal.SIGTERM if time.monotonic() < patience else signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes of the lab do not end: {remaining}")
        time.sleep(0.1)
    if host.has_systemd():
        # Gone before one of the same name is started.
        host.run(["systemctl", "stop", *(_unit(name) for name in names)], check=False)


def stop(state: State | None) -> None:
    """End every machine of the lab and remove their control groups."""
    machines = dict(state.machines) if state else {}
    if host.has_systemd():
        units = host.run(
            ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"{cgroups.label()}-*.service"]
        ).stdout
        for line in units.splitlines():
            host.run(["systemctl", "kill", "--signal=KILL", line.split()[0]], check=False)
            host.run(["systemctl", "stop", line.split()[0]], check=False)
    deadline = time.monotonic() + 10
    # The leader first: it is PID 1 of its namespace, so the kernel ends all the rest with it.
    known = [process for machine in machines.values() for process in (machine.leader, machine.supervisor) if process]
    for process in known:
        if process.alive():
            _kill(process.pid)
    while True:
        # What a crash kept from the record is still in the control group, which is the lab's own.
        remaining = cgroups.processes()
        for pid in remaining:
            _kill(pid)
        if not remaining and not any(process.alive() for process in known):
            break
        if time.monotonic() > deadline:
            raise LabError(f"processes of the lab do not end: {remaining or known}")
        time.sleep(0.02)
    cgroups.remove()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _start_process(here: Path, argv: list[str]) -> Process:
    with (here / "console.log").open("w") as console:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=dict(host.ENVIRONMENT),
            start_new_session=True,
        )
    process = Process.of(child.pid)
    if process is None:
        raise LabError(f"the machine ended at once; see {here / 'console.log'}")
    return process


def _start_unit(name: str, argv: list[str]) -> Process:
    """Start through the machine's systemd, which delegates a control group, as systemd-nspawn@.service has it."""
    unit = _unit(name)
    console = directory(name) / "console.log"
    properties = ["Delegate=yes", "KillMode=mixed", f"StandardOutput=file:{console}", f"StandardError=file:{console}"]
    options = [f"--property={text}" for text in properties]
    host.run(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={unit}",
            "--slice=machine.slice",
            f"--description={name} of the lab",
            *options,
            "--",
            *argv,
        ]
    )
    pid = int(host.run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout.strip() or 0)
    process = Process.of(pid) if pid else None
    if process is None:
        raise LabError(f"the machine ended at once; see {console}")
    return process


def _unit(name: str) -> str:
    return f"{cgroups.label()}-{name}.service"


def _wait_for_leader(name: str, supervisor: Process) -> Process:
    """Wait until systemd-nspawn has forked the machine's PID 1 and that runs its program."""
    deadline = time.monotonic() + 10
    own = Path("/proc/self/ns/pid").stat().st_ino
    while time.monotonic() < deadline:
        for pid in _children(supervisor.pid):
            try:
                # nspawn's short-lived helpers stay in our pid namespace; until exec the child is still called nspawn.
                if Path(f"/proc/{pid}/ns/pid").stat().st_ino == own:
                    continue
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd-nspawn":
                    continue
            except (FileNotFoundError, ProcessLookupError):
                continue
            leader = Process.of(pid)
            if leader is not None:
                return leader
        if not supervisor.alive():
            break
        time.sleep(0.01)
    raise LabError(f"{name} did not start; see {directory(name) / 'console.log'}")


def _children(pid: int) -> list[int]:
    """Direct children of `pid`. /proc/PID/task/TID/children is optional in the kernel, so parents are compared."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.name))
    return found
