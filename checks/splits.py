"""Where a loss is, and where it is not: per protocol, per name, per endpoint of a service, per node that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from checks import blame
from checks.diagnosis import Hop
from models import loss
from models.listed import listed

#: What was lost, of what was sent.
Count = tuple[int, int]


def splits(hops: Sequence[Hop], hop: Hop) -> list[str]:
    """Sentences about what sets the loss of a hop apart from what is like it, as far as the difference is sure."""
    lossy = sorted({one["protocol"] for one in blame.losing(hop)})
    protocols = {protocol.upper(): _count([hop], [protocol]) for protocol in ("udp", "tcp")}
    names = {one["name"]: _count([hop], lossy, one["name"]) for one in hop["losses"] if one["name"]}
    ends = _by(hops, hop, lossy, lambda other: other["destination"], ("stage", "node"))
    nodes = _by(hops, hop, lossy, lambda other: other["node"], ("stage", "destination", "port"))
    found = [_told("", protocols), _told("", names), _told(f"asked from {hop['node']}: ", ends)]
    if len(nodes) > 1:
        found.append(_told(f"asking {hop['destination']}: ", nodes))
    else:
        elsewhere = _by(hops, hop, lossy, lambda other: other["node"], ("stage",))
        found.append(_told(f"{hop['stage']}: ", elsewhere))
    return [sentence for sentence in found if sentence]


def _told(what: str, counts: dict[str, Count]) -> str:
    """Those that lose more, against the others; "" where they do not surely differ."""
    asked = {name: count for name, count in counts.items() if count[1]}
    if len(asked) < 2:
        return ""
    shares = {name: lost / sent for name, (lost, sent) in asked.items()}
    most, least = max(shares.values()), min(shares.values())
    worse = [name for name in asked if shares[name] > (most + least) / 2]
    others = [name for name in asked if name not in worse]
    bad, good = _sum(asked[name] for name in worse), _sum(asked[name] for name in others)
    if not others or not loss.differ(*bad, *good):
        return ""
    return f"{what}{listed(worse)} {loss.told(*bad)}; {listed(others)} {loss.told(*good)}"


def _by(
    hops: Iterable[Hop], hop: Hop, protocols: Sequence[str], label: Callable[[Hop], str], same: Sequence[str]
) -> dict[str, Count]:
    """The counts of the hops that are like this one but for one thing, by that thing."""
    groups: dict[str, list[Hop]] = {}
    for other in hops:
        if all(other[key] == hop[key] for key in same):  # type: ignore[literal-required]
            groups.setdefault(label(other), []).append(other)
    return {name: _count(group, protocols) for name, group in groups.items()}


def _count(hops: Iterable[Hop], protocols: Sequence[str], name: str = "") -> Count:
    chosen = [
        one
        for hop in hops
        for one in hop["losses"]
        if one["protocol"] in protocols and (not name or one["name"] == name)
    ]
    return sum(one["lost"] for one in chosen), sum(one["sent"] for one in chosen)


def _sum(counts: Iterable[Count]) -> Count:
    found = list(counts)
    return sum(lost for lost, _ in found), sum(sent for _, sent in found)
