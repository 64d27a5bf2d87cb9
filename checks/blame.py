"""Which hop of a query's path loses, and which only suffer from it.

A pod loses external names because dnsmasq's upstream is dead: every hop before the upstream loses them too, and one
only is to blame. What a destination answers by itself (dnsmasq's version.bind, CoreDNS's cluster names) tells them
apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from checks.diagnosis import STAGES, Hop, Loss, asked_at
from models import loss

#: A service's address answers nothing itself: it loses what its endpoints lose, and no more.
_RELAYS = ("pod to service", "host to service")


def first_losing(hops: Sequence[Hop]) -> list[Hop]:
    """Every hop that loses something that no losing hop behind it explains; the one that explains most comes first."""
    by_id = {hop["id"]: hop for hop in hops}
    return [by_id[name] for name in follows(hops)]


def follows(hops: Sequence[Hop]) -> dict[str, list[str]]:
    """Each hop to blame, by its id, and the ids of the losing hops that follow from it; most of them first."""
    known = _Hops(hops)
    suffering = [hop for hop in hops if hop["state"] == "loses"]
    each = {hop["id"]: [_causes(hop, one, known) for one in losing(hop)] for hop in suffering}
    causes = {name: set().union(*found) for name, found in each.items()}
    culprits: dict[str, list[str]] = {name: [] for name, found in each.items() if not all(found)}
    for name in causes:
        for cause in _reached(name, causes) & culprits.keys() - {name}:
            culprits[cause].append(name)
    return dict(sorted(culprits.items(), key=lambda item: (-len(item[1]), -_stage(known.by_id[item[0]]), item[0])))


def losing(hop: Hop) -> list[Loss]:
    """What a hop loses of DNS; echo requests that a firewall drops are no loss, nor is what a policy seems to drop."""
    if "why" in hop:
        return []
    return [one for one in hop["losses"] if one.get("loses", bool(one["lost"])) and one["protocol"] != "icmp"]


def sentence(hop: Hop) -> str:
    """`node-0/pod 172.26.2.53 -> 172.25.4.1:53 loses 100% over UDP (20 of 20, surely over 83%), TCP is answered`."""
    parts: list[str] = []
    for protocol in ("udp", "tcp"):
        mine = [one for one in hop["losses"] if one["protocol"] == protocol and one["sent"]]
        bad = [one for one in mine if one in losing(hop)]
        if bad:
            names = "" if len(bad) == len(mine) else f" for {', '.join(one['name'] for one in bad)}"
            told = loss.told(sum(one["lost"] for one in bad), sum(one["sent"] for one in bad))
            parts.append(f"{protocol.upper()}{names}: {told}")
        elif mine:
            parts.append(f"{protocol.upper()}: {loss.told(sum(one['lost'] for one in mine), _sent(mine))}")
    return f"{where(hop)}: {'; '.join(parts) or 'could not be asked'}"


def where(hop: Hop) -> str:
    """`node-0/pod 172.26.2.53 -> 172.25.4.1:53 (node-0)`, `dnsmasq of node-0 -> 10.10.0.21:53`."""
    source = f"{hop['node']}/{hop['source']}" if hop["source"] != "host" else hop["node"]
    if hop["stage"] == "dnsmasq to upstream":
        source = f"dnsmasq of {hop['node']}"
    return f"{source} -> {asked_at(hop)}" + (f" ({hop['owner']})" if hop["owner"] else "")


class _Hops:
    """All hops, by id; and what is asked from nodes themselves, not by their dnsmasq, by node and destination."""

    def __init__(self, hops: Sequence[Hop]) -> None:
        self.by_id = {hop["id"]: hop for hop in hops}
        self.from_hosts: dict[tuple[str, str, int], list[str]] = {}
        for hop in hops:
            if hop["source"] == "host" and hop["stage"] != "dnsmasq to upstream":
                self.from_hosts.setdefault(_end(hop["node"], hop), []).append(hop["id"])


def _end(node: str, hop: Hop) -> tuple[str, str, int]:
    return node, hop["destination"], hop["port"]


def _causes(hop: Hop, lost: Loss, known: _Hops) -> set[str]:
    """Ids of the losing hops behind a hop because of which it loses this; empty: nothing behind it explains that."""
    next_ones = [known.by_id[name] for name in hop.get("needs", {}).get(lost["name"], []) if name in known.by_id]
    if hop["stage"] in _RELAYS and next_ones and all(one["stage"] == "pod to endpoint" for one in next_ones):
        if _more_than_its_endpoints(hop, lost, next_ones):
            return set()
    elif any(_same_protocol(one, lost) for other in next_ones for one in losing(other)):
        # A resolver that gets no answer to some names takes its upstream for dead, and loses others with it (unbound's
        # infrastructure cache, CoreDNS's max_fails).
        return {other["id"] for other in next_ones if losing(other) and not _loop(hop, other, lost, known)}
    return {
        name
        for name in _behind(hop, lost["name"], known)
        if not _loop(hop, known.by_id[name], lost, known)
        and any(_blocks(known.by_id[name], one, lost) for one in losing(known.by_id[name]))
    }


def _more_than_its_endpoints(hop: Hop, lost: Loss, endpoints: Sequence[Hop]) -> bool:
    """Whether a service's address loses more than its endpoints do, each of which has its share of the questions.

    A scheduler deals out questions in turn, not at random, and names are asked in turn too: one name may always meet
    the endpoint that is dead. So what the same endpoints lose is taken together.
    """
    mine = [_most(each, lost) for each in endpoints]
    dealt = [
        (one, [_most(each, one) for each in endpoints]) for one in hop["losses"] if one["protocol"] == lost["protocol"]
    ]
    alike = [(one, shares) for one, shares in dealt if list(map(bool, shares)) == list(map(bool, mine))]
    sent = sum(one["sent"] for one, _ in alike)
    low, _ = loss.interval(sum(one["lost"] for one, _ in alike), sent)
    return low * len(endpoints) * sent > sum(one["sent"] * sum(shares) for one, shares in alike)


def _most(hop: Hop, lost: Loss) -> float:
    """The share that an endpoint may lose of this, itself or because of what is behind it."""
    return max((one["high"] for one in losing(hop) if _blocks(hop, one, lost)), default=0.0)


def _blocks(hop: Hop, one: Loss, lost: Loss) -> bool:
    """Whether this loss of a hop makes a hop before it lose that: the same name, or what is answered there itself."""
    own = hop["stage"] != "dnsmasq to upstream" and not hop.get("needs", {}).get(one["name"])
    return _same_protocol(one, lost) and (one["name"] == lost["name"] or own)


def _same_protocol(one: Loss, lost: Loss) -> bool:
    """Resolvers hand on over UDP too what came over TCP (systemd-resolved, unbound), never the other way round."""
    return one["protocol"] in (lost["protocol"], "udp")


def _loop(hop: Hop, other: Hop, lost: Loss, known: _Hops) -> bool:
    """Whether two hops wait for each other, and the other is not the one that leads back: the last stage of a loop."""
    return hop["id"] in _behind(other, lost["name"], known) and _stage(other) <= _stage(hop)


def _behind(hop: Hop, name: str, known: _Hops) -> set[str]:
    """The hops that a question for a name goes on to, however far."""
    seen: set[str] = set()
    waiting = _next(hop, name, known)
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += _next(known.by_id[one], name, known)
    return seen


def _next(hop: Hop, name: str, known: _Hops) -> list[str]:
    """Where a question goes on to; and what the destination's own node is answered there, without the way to it."""
    itself = [one for one in known.from_hosts.get(_end(hop["owner"], hop), ()) if one != hop["id"]]
    return [*itself, *(one for one in hop.get("needs", {}).get(name, []) if one in known.by_id)]


def _reached(name: str, causes: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for one in causes.get(waiting.pop(), set()) - seen:
            seen.add(one)
            waiting.append(one)
    return seen


def _sent(losses: Sequence[Loss]) -> int:
    return sum(one["sent"] for one in losses)


def _stage(hop: Hop) -> int:
    return STAGES.index(hop["stage"])
