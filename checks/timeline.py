"""What happened on the nodes, as one line of events: changes, and the failures that were seen after them.

Times are those of each node's clock; `notes` says where that is wrong. The first failure is marked, so that what stands
before it can be read upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypedDict, TypeVar

from checks.diagnosis import Event, Hop
from facts.changes import DAYS, Package, Switched
from facts.file_times import FileTimes
from facts.history import FACTS, History
from facts.reading import Reading
from models import coredns_log

T = TypeVar("T")

#: Events of a timeline: failures, and the newest of the rest.
MOST = 200
#: Seconds after a boot in which units start because of it.
_BOOTING = 180
#: Seconds that one run of a package manager, or of a tool that writes many files, is apart from the next.
_TOGETHER = 120
#: Things of a kind that are named one by one.
_NAMED = 4
#: Seconds that a clock may be off.
_SKEW = 2.0
#: Packages that stand in the way of a DNS query; of the others only the number is told.
_OURS = (
    *(
        "dnsmasq",
        "systemd",
        "libnss",
        "resolvconf",
        "openresolv",
        "unbound",
        "bind9",
        "coredns",
        "iptables",
        "nftables",
    ),
    *("libxtables", "libnft", "libip4tc", "libip6tc", "ipvsadm", "ipset", "conntrack", "kube", "cri-", "containerd"),
    *("docker", "cilium", "linux-image", "kernel", "network-manager", "NetworkManager", "netplan", "firewalld", "ufw"),
)


_RESOLVERS = ("dnsmasq", "resolv", "NetworkManager", "coredns")


class Timeline(TypedDict):
    """`notes`: what could not be read, and clocks that are off, in sentences."""

    events: list[Event]
    notes: list[str]


def timeline(histories: Mapping[str, History | None], hops: Sequence[Hop], started: str) -> Timeline:
    """All nodes' events of the last days in the order of their times.

    + hops: those that lose are failures at `started` (ISO 8601, with its offset)
    """
    asked = datetime.fromisoformat(started).astimezone(UTC)
    since, started = (time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (asked - timedelta(days=DAYS), asked))
    changes: list[Event] = []
    failures = [_event(started, hop["node"], _loss(hop), "dnsmend's questions") for hop in hops if _loss(hop)]
    notes: list[str] = []
    for node, history in sorted(histories.items()):
        if history is None:
            notes.append(f"{node}: what changed there is not known: the node could not be read")
            continue
        notes += _unread(node, history)
        notes += _skewed(node, history)
        changes += [event for event in _changes(node, history) if event["time"] >= since]
        failures += [event for event in _failures(node, history, since) if event["time"] >= since]
    if len(changes) + len(failures) > MOST:
        left = max(0, MOST - len(failures))
        changes = sorted(changes, key=_when)[len(changes) - left :]
        notes.append(f"the timeline has its newest {MOST} events only")
    failures = sorted(failures, key=_when)[:MOST]
    if failures:
        failures[0] = failures[0] | {"what": f"first failure: {failures[0]['what']}"}
    # A change and a failure of the same second: the change stands before it.
    return {"events": sorted([*changes, *failures], key=_when), "notes": notes}


def _changes(node: str, history: History) -> list[Event]:
    clock = history["clock"]["value"]
    boot = clock["boot"] if clock else ""
    events = [_event(boot, node, "the node started", "/proc/1/stat")] if boot else []
    events += _switches(node, history["alternatives"]["value"])
    for group in _together(history["packages"]["value"], lambda one: one["time"]):
        events.append(_event(group[0]["time"], node, _packages(group), group[0]["source"]))
    files = _without_folders(history["files"]["value"])
    for several in _together(files, lambda one: one["changed"]):
        if len(several) > _NAMED:
            events.append(_event(several[0]["changed"], node, _several(several), _first(several)[0]))
        else:
            events += [_event(one["changed"], node, _file(one), one["path"]) for one in several]
    # Last: what is started in the second in which something was changed, is started because of it.
    for start in history["starts"]["value"]:
        if boot and 0 <= _apart(boot, start["time"]) <= _BOOTING:
            continue
        restarts = f", systemd restarted it {start['restarts']} times before that" if start["restarts"] else ""
        source = "systemctl show" if start["name"].endswith(".service") else "ps"
        events.append(_event(start["time"], node, f"{start['name']} {start['what']}{restarts}", source))
    return events


def _failures(node: str, history: History, since: str) -> list[Event]:
    events = []
    for group in history["coredns"]["value"]:
        if group["last"] < since:
            continue
        one = coredns_log.complaint(node, group)
        text = f"CoreDNS {group['pod']}: {coredns_log.meaning(one)}, {group['spell']} times until {group['last']}"
        if group["first"] < group["since"]:
            text += f"; {group['times'] - group['spell']} times before, since {group['first']}"
        events.append(_event(group["since"], node, text, f"/var/log/{group['file']}"))
    for complaint in history["kernel"]["value"]:
        text = f"the kernel: {complaint['about']}, {complaint['times']} times until {complaint['last']}"
        events.append(_event(complaint["first"], node, text, "dmesg"))
    return events


def _switches(node: str, switched: Sequence[Switched]) -> list[Event]:
    """Each call once: by the log's line about the link, else by that about the call, else by the link itself."""
    ranked = sorted(switched, key=lambda one: ("link group" not in one["text"], one["source"].startswith("/etc")))
    kept: list[Switched] = []
    for one in ranked:
        if not any(one["name"] == other["name"] and abs(_apart(one["time"], other["time"])) <= 2 for other in kept):
            kept.append(one)
    return [
        _event(one["time"], node, f"alternative {one['name']}: {_said(one)}", one["source"])
        for one in sorted(kept, key=lambda one: one["time"])
    ]


def _said(one: Switched) -> str:
    return one["text"].removeprefix(f"link group {one['name']} ")


def _packages(group: Sequence[Package]) -> str:
    named = [one for one in group if one["package"].startswith(_OURS)]
    texts = [
        " ".join(
            filter(None, (one["action"], one["package"], " -> ".join(filter(None, (one["before"], one["after"])))))
        )
        for one in named[:_NAMED]
    ]
    others = len(group) - len(texts)
    if others:
        texts.append(f"{others} other packages" if texts else f"{others} packages")
    return "packages: " + ", ".join(texts)


def _several(group: Sequence[FileTimes]) -> str:
    return f"{len(group)} configuration files changed within minutes: {', '.join(_first(group)[:_NAMED])} ..."


def _first(group: Sequence[FileTimes]) -> list[str]:
    """The paths, those of resolvers before all others."""
    return sorted((one["path"] for one in group), key=lambda path: not any(word in path for word in _RESOLVERS))


def _file(one: FileTimes) -> str:
    if one["folder"]:
        return f"{one['path']}: a file was added, removed or renamed"
    if _apart(one["modified"], one["changed"]) > 60:
        return f"{one['path']} was put in place, or its owner or mode changed (content of {one['modified']})"
    return f"{one['path']} changed"


def _without_folders(files: Sequence[FileTimes]) -> list[FileTimes]:
    """A folder changes with each file that is put into it: it tells something where none of these files is there."""
    return [
        one
        for one in files
        if not one["folder"]
        or not any(
            other["path"].rpartition("/")[0] == one["path"] and abs(_apart(one["changed"], other["changed"])) <= 2
            for other in files
        )
    ]


def _together(things: Sequence[T], when: Callable[[T], str]) -> list[list[T]]:
    """Cut where the next thing came later than `_TOGETHER` seconds after the one before."""
    groups: list[list[T]] = []
    for one in sorted(things, key=when):
        if groups and _apart(when(groups[-1][-1]), when(one)) <= _TOGETHER:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _loss(hop: Hop) -> str:
    losses = [loss for loss in hop["losses"] if loss["lost"]]
    if hop["state"] != "loses" or not losses:
        return ""
    counts = ", ".join(
        f"{loss['protocol'].upper()} {loss['name']}".strip() + f" {loss['lost']} of {loss['sent']} lost"
        for loss in losses[:_NAMED]
    )
    return f"{hop['source']} -> {hop['destination']}:{hop['port']}: {counts}"


def _unread(node: str, history: History) -> list[str]:
    notes = []
    for name in FACTS:
        reading: Reading[object] = history[name]  # type: ignore[literal-required]
        # That CoreDNS's logs could not be read is said with what they say.
        if reading["state"] not in ("value", "empty") and name != "coredns":
            notes.append(f"{node}: {name}: {reading['state']}: {reading['detail'].splitlines()[0]}")
        notes += [f"{node}: {name}: {line}" for line in reading["detail"].splitlines() if line.startswith("truncated")]
    return notes


def _skewed(node: str, history: History) -> list[str]:
    """The node's clock stood between the controller's question and its answer, if it goes right."""
    clock = history["clock"]["value"]
    if clock is None or "heard" not in history:
        return []
    asked, had = history["heard"]
    off = min(0.0, clock["now"] - asked) + max(0.0, clock["now"] - had)
    if abs(off) <= _SKEW:
        return []
    side = "ahead of" if off > 0 else "behind"
    return [f"{node}: its clock is {abs(off):.0f} s {side} the controller's, and so are its times here"]


def _event(time: str, node: str, what: str, source: str) -> Event:
    return {"time": time, "node": node, "what": what, "source": source}


def _when(event: Event) -> str:
    return event["time"]


def _apart(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
