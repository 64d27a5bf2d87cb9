"""dnsmend beside Ansible, Mitogen, plain pyinfra facts and OpenSSH, in turn, on nodes of the lab.

    make bench                                                      # 5 nodes, a diagnosis and a repair: some minutes
    python -m bench.compare --nodes 20 --rtt 0,50 --jobs connect,read,diagnose,noop
    python -m bench.compare --nodes 5,20,50 --rtt 0,50 --jobs all   # everything: hours
    python -m bench.compare --resume ...                            # go on where an interrupted run was

A lab that is up is used as it is, with as many of its nodes as are wanted; without one, a lab is brought up and taken
down. What was measured is kept after every run in `bench/results/`, with a table and a plot made from it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import imports, samples, table
from bench.contenders import CONTENDERS, JOBS, Contender
from bench.machine import room, versions
from bench.measure import BenchError, Course, counts, reached, sample
from bench.samples import Cell, Results, Sample, Shares
from lab import host, lifecycle, plan
from lab.api import Lab
from lab.host import LabError

#: Runs of one contender that may fail in a cell before it is left out there: a busy machine loses a packet.
MERCY = 2
#: What a run does on a node does not depend on how many there are.
COUNTED_ON = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is wanted; returns 0, or 1 where a contender had to be left out."""
    wanted = _wanted(argv)
    results = samples.today()
    before = samples.earlier(results)
    cells = [Cell(job, nodes, rtt) for nodes in wanted.nodes for rtt in wanted.rtt for job in wanted.jobs]
    if not wanted.resume:
        results.forget(cells, wanted.contenders)
    results.missing = {name: why for name in wanted.contenders if (why := CONTENDERS[name].missing())}
    contenders = [CONTENDERS[name] for name in wanted.contenders if name not in results.missing]
    for name, why in results.missing.items():
        _say(f"without {name}: {why}")
    results.versions = versions()
    whole = True
    with _lab(max(wanted.nodes)) as lab, host.locked(host.state_dir()):
        for cell in cells:
            if cell.nodes > len(lab.nodes):
                _say(f"left out: {cell.nodes} nodes; the lab that is up has {len(lab.nodes)}")
                continue
            whole = _cell(lab, cell, contenders, wanted.rounds, results) and whole
        for job in wanted.jobs:
            _count(lab, job, contenders, results)
    results.imports = dict(imports.measured())
    results.save()
    table.write(results, before)
    return 0 if whole else 1


def _cell(lab: Lab, cell: Cell, contenders: list[Contender], rounds: int, results: Results) -> bool:
    """A B C, A B C, ... until each has its runs. False if one had to be left out."""
    left = {each.name: rounds - len(results.seconds(cell, each.name)) for each in contenders}
    failures = dict.fromkeys(left, 0)
    if not any(count > 0 for count in left.values()):
        return True
    names = tuple(node.name for node in lab.nodes[: cell.nodes])
    with reached(names, cell.rtt) as fleet:
        course = Course(lab, fleet, cell.job)
        shares = _recorded(course, cell)
        if shares is None:
            return False
        results.shares = [
            one for one in results.shares if (one.job, one.nodes, one.rtt) != (cell.job, cell.nodes, cell.rtt)
        ]
        results.shares.append(shares)
        while any(count > 0 for count in left.values()):
            for contender in contenders:
                if left[contender.name] <= 0:
                    continue
                try:
                    one = sample(course, cell, contender)
                except BenchError as error:
                    _say(f"failed, and is not counted: {error}")
                    failures[contender.name] += 1
                    if failures[contender.name] > MERCY:
                        left[contender.name] = 0
                    continue
                left[contender.name] -= 1
                results.samples.append(one)
                results.save()
                _say(_line(cell, one, left[contender.name]))
    return max(failures.values()) <= MERCY


def _recorded(course: Course, cell: Cell) -> Shares | None:
    """The run that the others repeat. None if it did not end well: a busy machine loses questions."""
    for _ in range(MERCY + 1):
        try:
            return course.record(cell.rtt)
        except BenchError as error:
            _say(f"not recorded: {error}")
    return None


def _line(cell: Cell, one: Sample, left: int) -> str:
    where = f"{cell.job}, {cell.nodes} nodes, {cell.rtt} ms"
    return f"{where}: {one.contender:<8} {one.seconds:7.2f} s, controller {one.cpu:6.2f} s, {left} to go"


def _count(lab: Lab, job: str, contenders: list[Contender], results: Results) -> None:
    names = tuple(node.name for node in lab.nodes[:COUNTED_ON])
    missing = [
        each for each in contenders if (job, each.name) not in {(one.job, one.contender) for one in results.counts}
    ]
    if not missing:
        return
    _say(f"{job}: counting execs and bytes")
    try:
        for one in counts(lab, names, job, missing):
            results.counts.append(one)
            results.save()
    except BenchError as error:
        _say(f"not counted: {error}")


@contextmanager
def _lab(nodes: int) -> Iterator[Lab]:
    """The lab that is up; or one that is brought up for this, and taken down."""
    if lifecycle.status()["up"]:
        yield Lab.attach()
        return
    with room(nodes):
        lifecycle.up(max(nodes, plan.MIN_NODES))
        try:
            yield Lab.attach()
        finally:
            lifecycle.down()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _wanted(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=_numbers, default=[5], metavar="N,M", help="default 5")
    parser.add_argument("--rtt", type=_numbers, default=[0], metavar="MS,MS", help="round trips; default 0")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each contender (default 5)")
    parser.add_argument(
        "--jobs", type=_words, default=["diagnose", "noop"], metavar="A,B", help=f"of {', '.join(JOBS)}; or all"
    )
    parser.add_argument(
        "--contenders", type=_words, default=list(CONTENDERS), metavar="A,B", help=f"of {', '.join(CONTENDERS)}"
    )
    parser.add_argument("--resume", action="store_true", help="keep what was measured today, and go on")
    wanted = parser.parse_args(argv)
    if wanted.jobs == ["all"]:
        wanted.jobs = list(JOBS)
    unknown = sorted(({*wanted.jobs} - {*JOBS}) | ({*wanted.contenders} - {*CONTENDERS}))
    if unknown:
        parser.error(f"not known: {', '.join(unknown)}")
    return wanted


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    # Temporary files, an injected fault and a lab of its own are taken away then as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (BenchError, LabError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
