"""What a lab has made on this machine, recorded in `state.json` before it is used, so that `down` finds all of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab import host

VERSION = 1


@dataclass(frozen=True)
class Process:
    """A process and the clock tick at which it started: a pid that was given to another one is never taken for it."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has `pid` now, or None."""
        started = start_time(pid)
        return None if started is None else cls(pid, started)

    def alive(self) -> bool:
        """True while this very process exists and is not a zombie."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start time of `pid` in clock ticks since boot (field 22 of proc_pid_stat(5)); None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in brackets and may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass
class Machine:
    """A started nspawn machine: `supervisor` is systemd-nspawn, `leader` its PID 1 as the machine numbers it."""

    supervisor: Process
    leader: Process | None = None

    def alive(self) -> bool:
        """True while both processes exist."""
        return self.supervisor.alive() and self.leader is not None and self.leader.alive()


@dataclass
class State:
    """The recorded lab. `ready` is set when `up` has seen every question answered."""

    nodes: int
    root: str
    ready: bool = False
    # With Kubernetes: where its programs are.
    programs: str = ""
    # The nodes are virtual machines, not containers.
    guests: bool = False
    # They are emulated, for want of KVM: many times slower.
    emulated: bool = False
    machines: dict[str, Machine] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the record, whole or not at all."""
        directory = host.state_dir()
        partial = directory / "state.json.partial"
        partial.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n")
        partial.replace(directory / "state.json")


def load() -> State | None:
    """Read the record; None if there is no lab. Raises LabError for a record that this program did not write."""
    try:
        text = (host.state_dir() / "state.json").read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = json.loads(text)
        if data.pop("version") != VERSION:
            raise ValueError("another version")
        machines = {
            name: Machine(Process(**entry["supervisor"]), Process(**entry["leader"]) if entry["leader"] else None)
            for name, entry in data.pop("machines").items()
        }
        return State(machines=machines, **data)
    except (ValueError, KeyError, TypeError) as error:
        raise host.LabError(
            f"{host.state_dir()}/state.json is not a record of this lab ({error}); run `python -m lab down`"
        ) from error
