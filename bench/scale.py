"""What a diagnosis of many nodes costs the controller: `python -m bench.scale --hosts 100,500,1000,2000`.

The nodes are simulated (bench/simulated), in a process of their own whose processor time is told apart. Needs root, for
a server on the loopback interface alone; best run in a network namespace of its own, with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.simulated.running import INVENTORY, ROOT, running

RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Run:
    """
    One diagnosis. Times in seconds, memory in MiB.

    + fleet: what its nodes are, in words; code: the exit code; verdicts, unread: how many of each
    + wall, cpu, rss: of the controller; server_cpu: what the simulated nodes took beside it
    + load: of the machine, the other programs' included: the mean of the last minute
    """

    hosts: int
    fleet: str
    code: int
    verdicts: int
    unread: int
    wall: float
    cpu: float
    rss: float
    server_cpu: float
    load: float

    @property
    def cpu_ms(self) -> float:
        """Of the controller, for each host."""
        return 1000 * self.cpu / self.hosts

    @property
    def rss_kib(self) -> float:
        """Of the controller, for each host."""
        return 1024 * self.rss / self.hosts


#: What a fleet may be, by name: shares of `bench.simulated.fleet.Plan`.
FLEETS: dict[str, dict[str, float]] = {
    "healthy": {},
    "incident": {"incident": 5},
    "stragglers": {"closed": 0.025, "blackholed": 0.025, "slow": 0.01},
}


def diagnosed(hosts: int, name: str, delay: float) -> Run:
    """One diagnosis of a fleet that is brought up for it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with running(folder, hosts, delay=delay, **FLEETS[name]) as fleet:
            began = time.monotonic()
            command = [sys.executable, "-m", "pyinfra", "-y", str(INVENTORY), "deploys/diagnose.py"]
            process = subprocess.Popen(
                [*command, "--data", f"json={folder / 'diagnosis.json'}"],
                cwd=ROOT,
                env=os.environ | fleet.environment | {"PYINFRA_PROGRESS": "off"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _, status, used = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        diagnosis = json.loads((folder / "diagnosis.json").read_text())
    return Run(
        hosts=hosts,
        fleet=name,
        code=process.returncode,
        verdicts=len(diagnosis["verdicts"]),
        unread=sum(map(bool, diagnosis["nodes"].values())),
        wall=round(wall, 1),
        cpu=round(used.ru_utime + used.ru_stime, 2),
        rss=round(used.ru_maxrss / 1024, 1),
        server_cpu=round(fleet.used.cpu_s, 2),
        load=round(os.getloadavg()[0], 1),
    )


def table(runs: Sequence[Run]) -> str:
    """Markdown, the median of the runs of each fleet and size."""
    head = ("fleet", "hosts", "exit", "verdicts", "not read", "wall", "CPU", "CPU a host", "peak RSS", "RSS a host")
    lines = ["| " + " | ".join((*head, "nodes' CPU", "load")) + " |", "|" + "---|" * (len(head) + 2)]
    for run in medians(runs):
        cells = (
            run.fleet,
            run.hosts,
            run.code,
            run.verdicts,
            run.unread,
            f"{run.wall:.0f} s",
            f"{run.cpu:.1f} s",
            f"{run.cpu_ms:.0f} ms",
            f"{run.rss:.0f} MiB",
            f"{run.rss_kib:.0f} KiB",
            f"{run.server_cpu:.1f} s",
            f"{run.load:.1f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def medians(runs: Sequence[Run]) -> list[Run]:
    """Of each fleet and size the run whose processor time is in the middle."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.fleet, run.hosts), []).append(run)
    return [sorted(group, key=lambda run: run.cpu)[(len(group) - 1) // 2] for _, group in sorted(groups.items())]


def flat(runs: Sequence[Run]) -> float:
    """The dearest healthy host against the cheapest, without what a run of one costs: 1.2 is 20% more."""
    healthy = [run for run in medians(runs) if run.fleet == "healthy"]
    start = next((run.cpu for run in healthy if run.hosts == 1), 0.0)
    costs = [(run.cpu - start) / run.hosts for run in healthy if run.hosts > 1]
    return max(costs) / min(costs) if costs else 0.0


def draw(runs: Sequence[Run], file: Path) -> bool:
    """Time and memory over the number of hosts, as SVG. False without matplotlib (the extra `bench`)."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "dnsmend"
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5))
    for name in FLEETS:
        chosen = [run for run in medians(runs) if run.fleet == name]
        hosts = [run.hosts for run in chosen]
        if chosen:
            left.plot(hosts, [run.cpu for run in chosen], marker="o", label=f"{name}: processor time")
            right.plot(hosts, [run.rss for run in chosen], marker="o", label=name)
    nodes = [run for run in medians(runs) if run.fleet == "healthy"]
    left.plot([run.hosts for run in nodes], [run.server_cpu for run in nodes], "--", label="the simulated nodes'")
    left.set_ylabel("seconds")
    right.set_ylabel("peak resident memory, MiB")
    for axes in (left, right):
        axes.set_xlabel("hosts")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return True


def main() -> None:
    """Measure, and keep the results; those of other fleets and sizes that are there already stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", default="1,100,500,1000,2000")
    parser.add_argument("--fleets", default="healthy", help=", ".join(FLEETS))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds before each answer of a node")
    options = parser.parse_args()
    wanted = {(name, int(hosts)) for name in options.fleets.split(",") for hosts in options.hosts.split(",")}
    kept = RESULTS / "scale.json"
    before = [Run(**one) for one in json.loads(kept.read_text())] if kept.exists() else []
    runs = [run for run in before if (run.fleet, run.hosts) not in wanted]
    for _ in range(options.runs):
        for name, hosts in sorted(wanted):
            runs.append(diagnosed(hosts, name, options.delay))
            print(runs[-1], flush=True)
            _keep(runs)
    print(table(runs), f"dearest host / cheapest: {flat(runs):.2f}", sep="\n")


def _keep(runs: Sequence[Run]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    told = f"\nWithout the start (1 host), the dearest healthy host costs {flat(runs):.2f} times the cheapest.\n"
    (RESULTS / "scale.md").write_text(table(runs) + told)
    draw(runs, RESULTS / "scale.svg")


if __name__ == "__main__":
    main()
