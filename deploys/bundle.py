"""A run that can be judged again, offline: what was read and asked, and with which policy, in a directory."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from pathlib import Path
from platform import python_version
from typing import Any, NotRequired, TypedDict, cast, get_type_hints

from pyinfra.api.exceptions import PyinfraError

from checks.captured import Journey
from checks.diagnosis import Hop
from checks.timeline import Timeline
from deploys.shape import misfit
from facts.counters import Counters
from facts.reading import Reading
from facts.snapshot import Snapshot
from probes.probe import Result
from reports import bundle, plain, redaction
from reports.pseudonyms import Pseudonyms

#: The parts of a bundle; `versions` is for people.
_PARTS = ("run", "fleet", "results", "policy", "evidence")
_VERSIONS = ("pyinfra", "dnspython", "rich", "jinja2")


class _Logs(TypedDict):
    sentences: list[str]
    notes: list[str]


class _Captures(TypedDict):
    journeys: list[Journey]
    notes: list[str]


class _Run(TypedDict):
    started: str
    finished: str
    nodes: NotRequired[dict[str, str]]


class _Evidence(TypedDict):
    """What of a recording's evidence is judged; an older dnsmend has not written all of it."""

    hops: NotRequired[list[Hop]]
    counters: NotRequired[dict[str, Counters | None]]
    endpoints: NotRequired[dict[str, list[str]]]
    unseen: NotRequired[list[str]]
    timeline: NotRequired[Timeline]
    logs: NotRequired[_Logs]
    captures: NotRequired[_Captures]


@dataclass(frozen=True)
class Recorded:
    """All that judging needs, as plain JSON.

    + started, finished: UTC, ISO 8601
    + nodes: every node of the run, and why one could not be read ("" for those that were)
    + fleet: what was read of each; results: what was seen when asking from each
    + policy: the policy's keys and values
    + evidence: whatever else was seen, under names of its own
    """

    started: str
    finished: str
    nodes: dict[str, str]
    fleet: dict[str, Snapshot | None]
    results: dict[str, list[Result]]
    policy: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict)


def check(directory: str) -> None:
    """Raise PyinfraError where no bundle could be saved: before an hour is spent on asking."""
    try:
        bundle.refuse(Path(directory))
    except (bundle.BundleError, OSError) as error:
        raise PyinfraError(f"--data bundle: {error}") from error


def save(directory: str, recorded: Recorded, *, pseudonyms: bool = False, captures: Sequence[Path] = ()) -> None:
    """Save it for its owner alone, without secrets; with `pseudonyms` under other addresses and names.

    + captures: files to keep with it; left out with `pseudonyms`, for a packet cannot be renamed

    Raises PyinfraError, in one sentence, where it cannot be saved.
    """
    parts = cast("dict[str, Any]", redaction.everything(_parts(recorded)))
    if pseudonyms:
        # The key is not kept: nobody, not even who saved it, can turn the names round.
        named = Pseudonyms(secrets.token_bytes(32), _hosts(recorded), _domains(recorded))
        captured = parts["evidence"].get("captures", {"journeys": []})
        # The files stay behind, and in their names no word ends where a node's name does.
        for one in (captured, *captured["journeys"]):
            one["files"] = []
        parts = named.everything(parts)
    about = {"pseudonyms": pseudonyms, "captures_left_out": len(captures) if pseudonyms else 0, "versions": _versions()}
    try:
        bundle.write(Path(directory), parts, about, () if pseudonyms else captures)
    except (bundle.BundleError, OSError) as error:
        raise PyinfraError(f"the bundle could not be saved: {error}") from error


def load(directory: str) -> Recorded:
    """Read it back. Raises PyinfraError, in one sentence, for a damaged one, another format, or none at all."""
    try:
        return recorded(bundle.read(Path(directory)))
    except _Damaged as error:
        raise PyinfraError(f"the bundle cannot be replayed: {directory}: is damaged: {error}") from error
    except (bundle.BundleError, OSError) as error:
        raise PyinfraError(f"the bundle cannot be replayed: {error}") from error


class _Damaged(PyinfraError):
    """What a part lacks, or holds and must not."""


def recorded(parts: dict[str, Any]) -> Recorded:
    """The parts of a bundle as a recording: it comes from somebody else perhaps, and every value must be of its type.

    Raises PyinfraError, in one sentence.
    """
    missing = [name for name in _PARTS if not isinstance(parts.get(name), dict)]
    if missing:
        raise _Damaged(f"it holds no {' and no '.join(missing)}")
    for name, kind in (
        ("run", _Run),
        ("fleet", dict[str, dict[str, Reading[Any]] | None]),
        ("results", dict[str, list[Result]]),
        ("evidence", _Evidence),
    ):
        if problem := misfit(parts[name], kind, name):
            raise _Damaged(_one_line(problem))
    run = parts["run"]
    for node, read in parts["fleet"].items():
        # A fact more than this dnsmend knows, or one less, is no damage: checks say what they miss.
        for section, reading in (read or {}).items():
            if section in _SECTIONS and (problem := misfit(reading, _SECTIONS[section], f"{node}.{section}")):
                raise _Damaged(f"what was read of {_one_line(node)} is not understood: {_one_line(problem)}")
    for key, value in _named_addresses(parts["policy"]):
        if not _is_address(value):
            raise _Damaged(f"policy.{key} holds what is no address")
    return Recorded(
        run["started"],
        run["finished"],
        run.get("nodes", {}),
        parts["fleet"],
        parts["results"],
        parts["policy"],
        parts["evidence"],
    )


_SECTIONS = get_type_hints(Snapshot)


def _named_addresses(policy: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("dns_vips", "dns_services"):
        given = policy.get(key)
        yield from ((key, one) for one in (given if isinstance(given, list) else [] if given is None else [None]))


def _is_address(text: Any) -> bool:
    try:
        ip_address(text if isinstance(text, str) else "")
    except ValueError:
        return False
    return True


def _one_line(text: str) -> str:
    """Names in a bundle may hold anything."""
    return plain.line(text, 200)


def _parts(recorded: Recorded) -> dict[str, Any]:
    return {
        "run": {"started": recorded.started, "finished": recorded.finished, "nodes": recorded.nodes},
        "fleet": recorded.fleet,
        "results": recorded.results,
        "policy": recorded.policy,
        "evidence": recorded.evidence,
    }


def _hosts(recorded: Recorded) -> Iterator[str]:
    """The nodes' names in the inventory, and their own."""
    yield from recorded.nodes
    yield from recorded.fleet
    for read in recorded.fleet.values():
        system = read["system"]["value"] if read else None
        if system and system["hostname"]:
            yield system["hostname"]


def _domains(recorded: Recorded) -> Iterator[str]:
    """Domain names that can be told from where they stand."""
    yield from recorded.policy.get("probe_names") or {}
    for of_node in recorded.results.values():
        yield from (result["probe"]["name"] for result in of_node)
    for read in filter(None, recorded.fleet.values()):
        if resolv := read["resolv_conf"]["value"]:
            yield from resolv["search"]
        if resolved := read["resolved"]["value"]:
            for domain in (*resolved["domains"], *(name for link in resolved["links"] for name in link["domains"])):
                yield domain.removeprefix("~")
        for instance in read["dnsmasq"]["value"]["instances"]:
            for option in instance["options"]:
                # server=/one.example/two.example/192.0.2.1
                yield from (option["value"] or "").split("/")[1:-1]


def _versions() -> dict[str, str]:
    found = {"python": python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
