"""What was measured, as a table and a plot for people."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.contenders import CONTENDERS, JOBS
from bench.plot import draw
from bench.samples import Cell, Results
from bench.targets import TARGETS, handshake, judged

#: A ratio that moved by more than this share, and out of the spread, is shown as changed.
NOTICEABLE = 0.2


def write(results: Results, before: Results | None) -> None:
    """Write the table beside the results, and the plot where matplotlib is there."""
    lines = [*_head(results), *_targets(results)]
    for cell in results.cells():
        lines += _cell(results, before, cell)
    lines += [*_counts(results), *_shares(results), *_imports(results)]
    results.file.with_suffix(".md").write_text("\n".join(lines) + "\n")
    draw(results, results.file.with_suffix(".svg"))


def _head(results: Results) -> Iterator[str]:
    yield f"# {results.date}, {results.machine}"
    yield ""
    yield "Made by `python -m bench.compare`; [docs/benchmark.md](../../docs/benchmark.md) says what it is."
    yield "Seconds are medians, with the fastest and the slowest run. `x` is the median over dnsmend's."
    yield ""
    yield "Versions: " + ", ".join(f"{name} {text or 'missing'}" for name, text in results.versions.items()) + "."
    for name, why in results.missing.items():
        yield f"Without {name}: {why}."
    yield ""


def _targets(results: Results) -> Iterator[str]:
    rows = [row for target in TARGETS if (row := judged(target, results))]
    rows += [
        row for cell in results.cells() if cell.job == "diagnose" and cell.rtt and (row := handshake(results, cell))
    ]
    if rows:
        yield "| wanted | measured | held |"
        yield "|---|---|---|"
        yield from (f"| {wanted} | {measured} | {'yes' if held else 'NO'} |" for wanted, measured, held in rows)
        yield ""


def _cell(results: Results, before: Results | None, cell: Cell) -> Iterator[str]:
    yield f"## {JOBS[cell.job]}: {cell.nodes} nodes, {cell.rtt} ms"
    yield ""
    yield "| contender | runs | seconds | from | to | x | x before | controller, s per node | load |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, contender in CONTENDERS.items():
        mine = [one for one in results.samples if one.cell == cell and one.contender == name]
        if not mine:
            continue
        seconds = [one.seconds for one in mine]
        ratio = results.ratio(cell, name)
        cpu = median(one.cpu for one in mine) / cell.nodes
        load = max(one.load for one in mine)
        yield (
            f"| {contender.title} | {len(mine)} | {median(seconds):.2f} | {min(seconds):.2f} | {max(seconds):.2f} "
            f"| {_ratio(ratio)} | {_changed(ratio, before.ratio(cell, name) if before else None)} "
            f"| {cpu:.3f} | {load:.1f} |"
        )
    yield ""


def _ratio(ratio: float | None) -> str:
    return f"{ratio:.2f}" if ratio else ""


def _changed(ratio: float | None, earlier: float | None) -> str:
    if ratio is None or earlier is None:
        return ""
    moved = abs(ratio / earlier - 1) > NOTICEABLE
    return f"**{earlier:.2f}**" if moved else f"{earlier:.2f}"


def _counts(results: Results) -> Iterator[str]:
    if not results.counts:
        return
    yield "## On one node: connections, execs, bytes"
    yield ""
    yield "All bytes of the TCP connections, handshakes included."
    yield ""
    yield "| job | contender | connections | execs | bytes to it | bytes from it |"
    yield "|---|---|---|---|---|---|"
    for one in sorted(
        results.counts, key=lambda one: (list(JOBS).index(one.job), list(CONTENDERS).index(one.contender))
    ):
        execs = "" if one.execs is None else f"{one.execs:g}"
        yield (
            f"| {one.job} | {one.contender} | {one.connections:.1f} | {execs} | {one.sent:.0f} | {one.received:.0f} |"
        )
    yield ""


def _shares(results: Results) -> Iterator[str]:
    if not results.shares:
        return
    yield "## Where dnsmend's time goes, in one run"
    yield ""
    yield "| job | nodes | ms | starting, s | in SSH, s | outside SSH, s | share outside |"
    yield "|---|---|---|---|---|---|---|"
    for one in results.shares:
        whole = one.starting + one.ssh + one.outside
        share = (one.starting + one.outside) / whole
        yield (
            f"| {one.job} | {one.nodes} | {one.rtt} | {one.starting:.2f} | {one.ssh:.2f} | {one.outside:.2f} "
            f"| {share:.0%} |"
        )
    yield ""


def _imports(results: Results) -> Iterator[str]:
    if not results.imports:
        return
    yield "## Imports, ms (`python -X importtime`)"
    yield ""
    yield "| what | all | dearest packages, their own time |"
    yield "|---|---|---|"
    for name, one in results.imports.items():
        dearest = ", ".join(f"{package} {ms:.0f}" for package, ms in one["dearest"].items())
        yield f"| {name} | {one['total']:.0f} | {dearest} |"
    yield ""
