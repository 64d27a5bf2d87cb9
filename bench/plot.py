"""The plot: each contender's median beside dnsmend's, cell by cell, with its spread."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bench.contenders import CONTENDERS
from bench.samples import Results


def draw(results: Results, file: Path) -> bool:
    """Draw it as SVG. False where matplotlib (the extra `bench`) is not installed, or nothing was measured."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "dnsmend"
    from matplotlib import pyplot

    cells = results.cells()
    if not cells:
        return False
    present = [name for name in CONTENDERS if any(one.contender == name for one in results.samples)]
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.8 * len(cells)))
    height = 0.8 / len(present)
    for offset, name in enumerate(present):
        rows = [(row, results.seconds(cell, name)) for row, cell in enumerate(cells) if results.seconds(cell, name)]
        middle = [median(seconds) for _, seconds in rows]
        below = [median(seconds) - min(seconds) for _, seconds in rows]
        above = [max(seconds) - median(seconds) for _, seconds in rows]
        places = [row + offset * height for row, _ in rows]
        bars = axes.barh(places, middle, height, xerr=[below, above], label=CONTENDERS[name].title, capsize=2)
        axes.bar_label(bars, fmt="%.1f s", padding=3, fontsize=7)
    axes.set_yticks(
        [row + 0.4 - height / 2 for row in range(len(cells))],
        [f"{cell.job}\n{cell.nodes} nodes, {cell.rtt} ms" for cell in cells],
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds, median with the fastest and the slowest run")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12 if len(cells) > 3 else -0.3), ncols=2)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return True
