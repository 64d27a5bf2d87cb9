"""One run of a contender, measured; and what a run does on the nodes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import replay
from bench.contenders import BROKEN, ROOT, Command, Contender, dnsmend, recorded
from bench.fleet import Fleet, make
from bench.machine import as_a_user
from bench.proxies import Proxies, proxies
from bench.recorded import Recording
from bench.samples import Cell, Count, Sample, Shares
from lab.api import Lab

#: Seconds that one run may take.
LIMIT = 1800
#: The incident that is repaired.
FAULT = "dnsmasq-except-cilium"
_ANSIBLE_EXEC = re.compile(r"^<[^>]+> SSH: EXEC", re.MULTILINE)


class BenchError(Exception):
    """Something that was to be measured did not work. The message is for a person."""


class Course:
    """Nodes of the lab, the way to them, and what dnsmend did there, for others to do the same."""

    def __init__(self, lab: Lab, fleet: Fleet, job: str) -> None:
        self.lab, self.fleet, self.job = lab, fleet, job
        self.recording: Recording = {"connected": [], "execs": []}
        self._pods: dict[str, list[str]] = {}

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The nodes as the job finds them: where it repairs, the first one is broken before, and healed after."""
        if self.job not in BROKEN:
            yield
            return
        first = self.fleet.names[0]
        try:
            self.lab.inject(FAULT, first)
            self.prepare()
            yield
        finally:
            self.lab.heal(first)

    def record(self, rtt: int = 0) -> Shares:
        """Run dnsmend once, and keep what it did. Raises BenchError."""
        file = self.fleet.folder / "recording.json"
        with self.ready():
            self._pods = self._processes()
            began = time.time()
            run(recorded(dnsmend(self.job, self.fleet), file), self.fleet, f"dnsmend, {self.job}")
            ended = time.time()
        self.recording = json.loads(file.read_text())
        self.prepare()
        return shares(self.recording, Cell(self.job, len(self.fleet.names), rtt), began, ended)

    def prepare(self) -> None:
        """Write what the others run, with the pods' processes as they are now."""
        now = self._processes()
        moved = {name: dict(zip(self._pods.get(name, ()), now[name], strict=False)) for name in now}
        replay.write(self.fleet, self.recording["execs"], moved)

    def _processes(self) -> dict[str, list[str]]:
        show = ["systemctl", "show", "--property=MainPID", "--value"]
        nodes = [self.lab.node(name) for name in self.fleet.names]
        return {node.name: node.run([*show, *(pod.unit for pod in node.plan.pods)]).stdout.split() for node in nodes}


@contextmanager
def reached(names: tuple[str, ...], rtt: int) -> Iterator[Fleet]:
    """These nodes, directly or through proxies, with the files that lead there."""
    with tempfile.TemporaryDirectory(prefix="dnsmend-bench-") as folder:
        if rtt:
            with proxies(names, rtt) as running:
                yield make(names, running.ports, Path(folder))
        else:
            yield make(names, {}, Path(folder))


def shares(recording: Recording, cell: Cell, began: float, ended: float) -> Shares:
    """Where the time of a run went. What overlaps counts once."""
    spans = [(begin, end) for _, begin, end in recording["connected"]]
    spans += [(one["began"], one["ended"]) for one in recording["execs"]]
    first = min((begin for begin, _ in spans), default=ended)
    covered, until = 0.0, first
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    outside = ended - first - covered
    return Shares(cell.job, cell.nodes, cell.rtt, round(first - began, 3), round(covered, 3), round(outside, 3))


def run(command: Command, fleet: Fleet, what: str) -> tuple[float, float, str]:
    """Start it and wait: wall seconds, processor seconds on the controller, and what it printed. Raises BenchError."""
    log = fleet.folder / "log"
    own = {"PYINFRA_PROGRESS": "off", "NO_COLOR": "1", "COLUMNS": "200"}
    before = _processor()
    with log.open("w") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            cwd=ROOT,
            env={**as_a_user(), **fleet.environment, **own, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(LIMIT)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        seconds = time.perf_counter() - began
    text = log.read_text(errors="replace")
    if status != 0:
        last = [line[:300] for line in text.splitlines() if line.strip()][-12:]
        raise BenchError(f"{what}: it ended with {status}:\n    " + "\n    ".join(last))
    return seconds, _processor() - before, text


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def sample(course: Course, cell: Cell, contender: Contender) -> Sample:
    """One timed run. Raises BenchError if it failed, or did not do its work."""
    load = os.getloadavg()[0]
    with course.ready():
        seconds, cpu, _ = run(contender.command(cell.job, course.fleet), course.fleet, f"{contender.name}, {cell.job}")
        _finish(course, contender)
    return Sample(cell.job, cell.nodes, cell.rtt, contender.name, round(seconds, 3), round(cpu, 3), round(load, 1))


def _finish(course: Course, contender: Contender) -> None:
    """The next run opens connections of its own. Raises BenchError if the scripts did not say what they said before."""
    for socket in (course.fleet.folder / "control").glob("*"):
        subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "node"], capture_output=True, check=False)
    for name in course.fleet.names if contender.name == "raw" else ():
        got = (course.fleet.folder / "out" / name).stat().st_size
        wanted = sum(
            {one["line"]: one["received"] for one in course.recording["execs"] if one["node"] == name}.values()
        )
        if got < 0.8 * wanted:
            raise BenchError(f"raw, {course.job}: {name} answered {got} bytes, not about {wanted}")


def counts(lab: Lab, names: tuple[str, ...], job: str, contenders: list[Contender]) -> Iterator[Count]:
    """What each of them does per node in one run that is not timed, through proxies that do nothing but count."""
    with tempfile.TemporaryDirectory(prefix="dnsmend-bench-") as folder, proxies(names, 0) as running:
        course = Course(lab, make(names, running.ports, Path(folder)), job)
        course.record()
        for contender in contenders:
            yield _counted(course, running, contender)


def _counted(course: Course, running: Proxies, contender: Contender) -> Count:
    file, command = course.fleet.folder / "counted.json", contender.command(course.job, course.fleet)
    if contender.name in ("dnsmend", "apart"):
        command = recorded(command, file)
    command.environment["ANSIBLE_VERBOSITY"] = "3"
    before = running.traffic()
    with course.ready():
        _, _, text = run(command, course.fleet, f"{contender.name}, {course.job}, counted")
        _finish(course, contender)
    after = running.traffic()
    nodes, logged = len(course.fleet.names), len(_ANSIBLE_EXEC.findall(text))
    execs: float | None = {"raw": nodes, "ansible": logged, "sections": logged}.get(contender.name)
    if contender.name in ("dnsmend", "apart"):
        execs = len(json.loads(file.read_text())["execs"])
    connections, sent, received = (
        sum(getattr(after[name], what) - getattr(before[name], what) for name in after) / nodes
        for what in ("connections", "sent", "received")
    )
    return Count(
        course.job,
        contender.name,
        connections,
        None if execs is None else round(execs / nodes, 2),
        round(sent),
        round(received),
    )
