"""Where the boxes and edges of a path go in its picture: columns in a query's order, long edges between the boxes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

from reports.path import KINDS, Box, Edge, Graph, Key, Kind

WIDTH, HEIGHT = 156, 46
GAP, ROW = 150, 66
MARGIN, HEADING = 12, 34
#: A label, at so many pixels a letter; a flag above it says which incident starts there.
_LETTER, _FLAG_LETTER, LABEL = 6.6, 5.3, 20
_FLAG = 17
_SWEEPS = 6

Point = tuple[float, float]


@dataclass(frozen=True)
class PlacedBox:
    """`x` and `y` are of its left upper corner."""

    box: Box
    x: float
    y: float


@dataclass(frozen=True)
class PlacedEdge:
    """`path` is SVG's; `x` and `y` are the middle of its label, `width` the label's."""

    edge: Edge
    path: str
    x: float
    y: float
    width: float
    flag: str


@dataclass(frozen=True)
class Picture:
    """In pixels, to be scaled."""

    node: str
    width: float
    height: float
    headings: list[tuple[float, Kind]]
    boxes: list[PlacedBox]
    edges: list[PlacedEdge]
    left: int


def picture(graph: Graph) -> Picture:
    """Place everything. The same graph gives the same picture."""
    kinds = [kind for kind in KINDS if any(box.kind == kind for box in graph.boxes.values())]
    column = {key: kinds.index(box.kind) for key, box in graph.boxes.items()}
    ways = [_way(number, edge, column) for number, edge in enumerate(graph.edges)]
    columns = _ordered(kinds, graph, ways, column)
    tall = max((len(keys) for keys in columns), default=1)
    middle: dict[Key, Point] = {}
    for at, keys in enumerate(columns):
        top = MARGIN + HEADING + _FLAG + (tall - len(keys)) * ROW / 2
        for row, key in enumerate(keys):
            middle[key] = (MARGIN + at * (WIDTH + GAP) + WIDTH / 2, top + row * ROW + HEIGHT / 2)
    boxes = [
        PlacedBox(box, middle[key][0] - WIDTH / 2, middle[key][1] - HEIGHT / 2) for key, box in graph.boxes.items()
    ]
    return Picture(
        graph.node,
        2 * MARGIN + len(kinds) * WIDTH + max(0, len(kinds) - 1) * GAP,
        2 * MARGIN + HEADING + _FLAG + tall * ROW - (ROW - HEIGHT),
        [(MARGIN + at * (WIDTH + GAP) + WIDTH / 2, kind) for at, kind in enumerate(kinds)],
        boxes,
        _edges(graph.edges, ways, middle),
        graph.left,
    )


def _way(number: int, edge: Edge, column: dict[Key, int]) -> list[Key]:
    """The boxes of an edge, and a free place in every column that it crosses."""
    first, last = column[edge.start], column[edge.end]
    return [edge.start, *(("", str(number), str(at)) for at in range(first + 1, last)), edge.end]


def _ordered(kinds: list[Kind], graph: Graph, ways: list[list[Key]], column: dict[Key, int]) -> list[list[Key]]:
    """Each column from top to bottom, so that few edges cross: by the mean of the neighbours' places."""
    columns: list[list[Key]] = [[] for _ in kinds]
    for key in graph.boxes:
        columns[column[key]].append(key)
    beside: dict[Key, list[Key]] = {}
    for way in ways:
        for key in way[1:-1]:
            columns[int(key[2])].append(key)
        for one, other in pairwise(way):
            beside.setdefault(one, []).append(other)
            beside.setdefault(other, []).append(one)
    for sweep in range(_SWEEPS):
        row = {key: at - len(keys) / 2 for keys in columns for at, key in enumerate(keys)}
        for keys in columns if sweep % 2 else reversed(columns):
            wanted = {key: mean(row[other] for other in beside[key]) if key in beside else row[key] for key in keys}
            keys.sort(key=wanted.__getitem__)
            row |= {key: at - len(keys) / 2 for at, key in enumerate(keys)}
    return columns


def _edges(edges: list[Edge], ways: list[list[Key]], middle: dict[Key, Point]) -> list[PlacedEdge]:
    leaving = _ports(ways, middle, 0, 1)
    arriving = _ports(ways, middle, -1, -2)
    taken: list[tuple[float, float, float]] = []
    placed: list[PlacedEdge] = []
    # Those that lose get the best place for their label.
    for number in sorted(range(len(edges)), key=lambda number: edges[number].state == "ok"):
        edge, way = edges[number], ways[number]
        points = [(middle[way[0]][0] + WIDTH / 2, middle[way[0]][1] + leaving[number])]
        for key in way[1:-1]:
            x, y = middle[key]
            points += [(x - WIDTH / 2, y), (x + WIDTH / 2, y)]
        points.append((middle[way[-1]][0] - WIDTH / 2, middle[way[-1]][1] + arriving[number]))
        flag = f"first loss, incident {', '.join(map(str, edge.incidents))}" if edge.incidents else ""
        width = max(len(edge.label) * _LETTER, len(flag) * _FLAG_LETTER) + 14
        x, y = _label(points, width, taken)
        taken += [(x, y, width), (x, y - _FLAG, width)] if flag else [(x, y, width)]
        placed.append(PlacedEdge(edge, _path(points), round(x, 1), round(y, 1), round(width, 1), flag))
    return placed


def _ports(ways: list[list[Key]], middle: dict[Key, Point], end: int, other: int) -> list[float]:
    """How far from the box's middle each edge touches it: side by side, in the order of where they come from."""
    at_box: dict[Key, list[int]] = {}
    for number, way in enumerate(ways):
        at_box.setdefault(way[end], []).append(number)
    offset = [0.0] * len(ways)
    for numbers in at_box.values():
        step = min(12.0, (HEIGHT - 10) / len(numbers))
        numbers.sort(key=lambda number: middle[ways[number][other]][1])
        for at, number in enumerate(numbers):
            offset[number] = (at - (len(numbers) - 1) / 2) * step
    return offset


def _path(points: list[Point]) -> str:
    said = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for number, ((x, y), (to_x, to_y)) in enumerate(pairwise(points)):
        if number % 2:
            said.append(f"L{to_x:.1f} {to_y:.1f}")
        else:
            bend = max(abs(to_x - x) / 2, 30)
            said.append(f"C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
    return " ".join(said)


def _label(points: list[Point], width: float, taken: list[tuple[float, float, float]]) -> Point:
    """A place on the edge where no other label is, near the middle of one of its curves."""
    spots = [
        _on_curve(points[at], points[at + 1], share)
        for share in (0.5, 0.38, 0.62, 0.28, 0.72, 0.2, 0.8)
        for at in range(0, len(points) - 1, 2)
    ]
    free = [spot for spot in spots if all(_apart(spot, width, other) for other in taken)]
    return (free or spots)[0]


def _apart(spot: Point, width: float, other: tuple[float, float, float]) -> bool:
    x, y, wide = other
    return abs(spot[1] - y) >= LABEL + 1 or abs(spot[0] - x) >= (width + wide) / 2 + 1


def _on_curve(start: Point, end: Point, share: float) -> Point:
    """The point of the Bezier curve that `_path` draws."""
    (x, y), (to_x, to_y) = start, end
    bend, rest = max(abs(to_x - x) / 2, 30), 1 - share
    weights = (rest**3, 3 * rest**2 * share, 3 * rest * share**2, share**3)
    xs, ys = (x, x + bend, to_x - bend, to_x), (y, y, to_y, to_y)
    return sum(w * v for w, v in zip(weights, xs, strict=True)), sum(w * v for w, v in zip(weights, ys, strict=True))
