"""What is promised of the speed, as ratios of medians."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.samples import Cell, Results


@dataclass(frozen=True)
class Target:
    """dnsmend beside a contender in one cell: at least so many times faster, or at most so many times as slow."""

    cell: Cell
    contender: str
    way: Literal["faster", "slower"]
    limit: float


TARGETS: tuple[Target, ...] = (
    Target(Cell("diagnose", 20, 0), "ansible", "faster", 20),
    Target(Cell("noop", 20, 0), "ansible", "faster", 20),
    Target(Cell("read", 20, 0), "raw", "slower", 1.2),
    Target(Cell("diagnose", 20, 0), "raw", "slower", 1.2),
    Target(Cell("noop", 20, 0), "raw", "slower", 1.2),
    Target(Cell("read", 50, 0), "raw", "slower", 1.0),
    Target(Cell("diagnose", 50, 0), "raw", "slower", 1.0),
    Target(Cell("fix", 1, 0), "raw", "slower", 3),
)


def judged(target: Target, results: Results) -> tuple[str, str, bool] | None:
    """What is wanted, what was measured, and whether it held; None where it was not measured."""
    ratio = results.ratio(target.cell, target.contender)
    if ratio is None:
        return None
    cell = target.cell
    where = f"{cell.job}, {cell.nodes} {'node' if cell.nodes == 1 else 'nodes'}, {cell.rtt} ms"
    if target.way == "faster":
        return f"{where}: {target.limit:g}x faster than {target.contender}", f"{ratio:.1f}x", ratio >= target.limit
    slower = 1 / ratio
    return f"{where}: at most {target.limit:g}x of {target.contender}", f"{slower:.2f}x", slower <= target.limit


def handshake(results: Results, far_cell: Cell) -> tuple[str, str, bool] | None:
    """A distant diagnosis: at most 1.5 times one handshake and the scripts' own time. None where that is not known."""
    nodes, rtt = far_cell.nodes, far_cell.rtt
    far = results.seconds(far_cell, "dnsmend")
    own = results.seconds(Cell("diagnose", nodes, 0), "raw")
    shake = results.seconds(Cell("connect", nodes, rtt), "raw")
    near = results.seconds(Cell("connect", nodes, 0), "raw")
    if not (far and own and shake and near):
        return None
    # The near run's own handshake is not the scripts' time.
    allowed = 1.5 * (median(shake) + median(own) - median(near))
    wanted = (
        f"diagnose, {nodes} nodes, {rtt} ms: at most 1.5x one handshake and the scripts' own time ({allowed:.2f} s)"
    )
    return wanted, f"{median(far):.2f} s", median(far) <= allowed
