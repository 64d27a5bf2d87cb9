"""One POSIX sh script that asks all probes of a node, from every source at once.

A carrier gets one row per question: number of the probe, protocol, address, port, tries, deadline in
microseconds, number of its first try in the exec, the question without its id in hex, name, type. A carrier
runs once per source, inside its network namespace (nsenter(1)), with the tries of all its questions in flight
together, begun no faster than the rate allows. python3 comes first, because one process asks everything and
costs the node least; then bash, then dig. Nothing is installed and no file is written; each part has a time
limit and its own sections of the output, so that what hangs or is missing costs only its own tries.

The output is lines that begin with `@dns `, each a single write, in any order:

    @dns probes JSON               what is asked: the output can be read without knowing more
    @dns carrier S NAME            how the questions of source S are asked
    @dns stderr S TEXT             what went wrong around them
    @dns try P T MICROSECONDS STATE [TEXT]    state: answer, timeout, closed, error
    @dns data P T HEX              the next bytes of the answer
    @dns dig P T TEXT              (dig) its output
    @dns ping P TEXT               (ICMP) its output
    @dns end
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from itertools import groupby
from math import ceil
from pathlib import Path
from shlex import quote

import dns.name

from probes import bash, dig, ping, python3, wire
from probes.probe import Probe, Source, validate

IN_FLIGHT = 64
"""How many tries a node has in flight, over all its sources."""
RATE = 1000
"""How many tries a node begins in a second, over all its sources, where nothing else is said."""
MOST_SECONDS = 600
"""Seconds that no source may outlast, however much it asks, and however little of it is answered."""

# Processes are what asking costs a node, an interpreter most of all: python3 is tried out only after it has failed.
# Where it cannot work, it has asked nothing, and the next carrier takes its place.
_DISPATCHER = r"""
export LC_ALL=C
unset BASH_ENV ENV
exec 3>&1
printf '\n@dns probes %s\n' @PROBES@
without_python() {
  carrier=none
  if bash -c ': 3<>/dev/udp/127.0.0.1/9' 2>/dev/null; then carrier=bash
  elif command -v dig >/dev/null 2>&1; then carrier=dig
  fi
}
if command -v python3 >/dev/null 2>&1; then carrier=python3; else without_python; fi
within() {
  source=$1 netns=$2 local=$3 limit=$4
  shift 4
  [ "$local" = : ] ||
    set -- sh -c "$local || { echo the address is not in this network namespace >&2; exit 3; }; exec \"\$@\"" sh "$@"
  [ -z "$netns" ] || set -- nsenter "--net=$netns" "$@"
  errors=$(timeout -k 1 "$limit" "$@" 2>&1 >&3 3>&- </dev/null)
  code=$?
  set -f
  IFS='
'
  for line in $errors; do printf '@dns stderr %s %s\n' "$source" "$line"; done
  unset IFS
  return $code
}
ask() {
  printf '@dns carrier %s %s\n' "$1" "$carrier"
  source=$1 netns=$2 local=$3 limit=$4
  shift 4
  if [ "$carrier" = python3 ]; then
    within "$source" "$netns" "$local" "$limit" python3 -IBS -c @PYTHON3@ "$@"
    case $? in 0 | 124 | 137) return ;; esac
    python3 -IBS -c 'import _socket, posix, select' 2>/dev/null && return
    without_python
    printf '@dns carrier %s %s\n' "$source" "$carrier"
  fi
  case $carrier in
    bash) within "$source" "$netns" "$local" "$limit" bash -c @BASH@ bash "$@" ;;
    dig) within "$source" "$netns" "$local" "$limit" sh -c @DIG@ sh "$@" ;;
  esac
}
"""


def carry(probes: Sequence[Probe], rate: int = RATE) -> str:
    """The script. It ends with 0 whatever the node lacks; ValueError: a probe that cannot be asked.

    + rate: tries that it begins in a second, at most
    """
    for probe in probes:
        validate(probe)
    numbered = list(enumerate(probes))
    parts = []
    for number, source in enumerate(grouped(probes)):
        where = f"{number} {quote(source['netns'])} {quote(is_local(source['address']))}"
        mine = [(index, probe) for index, probe in numbered if probe["source"] == source]
        questions = [(index, probe) for index, probe in mine if probe["protocol"] != "icmp"]
        if questions:
            share, pause, limit = _pace(probes, [probe for _, probe in questions], rate)
            rows = " ".join(quote(_row(index, probe, first_try(probes, index))) for index, probe in questions)
            parts.append(f"ask {where} {limit} {share} {pause} {rows} &")
        echoes = [(index, probe) for index, probe in mine if probe["protocol"] == "icmp"]
        if echoes:
            limit = max(ping.overall_s(probe) for _, probe in echoes) + 2
            arguments = " ".join(_echo(index, probe) for index, probe in echoes)
            parts.append(f"within {where} {limit} sh -c {quote(ping.SCRIPT)} sh {arguments} &")
    texts = {
        "PROBES": json.dumps(list(probes), separators=(",", ":")),
        "BASH": bash.SCRIPT,
        "PYTHON3": Path(python3.__file__).read_text(encoding="utf-8"),
        "DIG": dig.SCRIPT,
    }
    script = re.sub(r"@([A-Z0-9]+)@", lambda match: quote(texts[match[1]]), _DISPATCHER)
    return "\n".join([script.strip(), *parts, "wait", "echo @dns end"])


def grouped(probes: Sequence[Probe]) -> list[Source]:
    """The sources, each once, in the order in which they first appear: their numbers in the output."""
    sources: list[Source] = []
    for source, _ in groupby(probe["source"] for probe in probes):
        if source not in sources:
            sources.append(source)
    return sources


def first_try(probes: Sequence[Probe], index: int) -> int:
    """The number in the exec of a probe's first try."""
    return sum(probe["tries"] for probe in probes[:index])


def _pace(probes: Sequence[Probe], mine: Sequence[Probe], rate: int) -> tuple[int, int, int]:
    """Of the questions of one source: tries in flight, microseconds between two of them, seconds until they are over.

    The sources ask side by side, and all for as long.
    """
    share = max(4, IN_FLIGHT // len(grouped(probes)))
    every = sum(probe["tries"] for probe in probes if probe["protocol"] != "icmp")
    pause = every * 1_000_000 // (rate * sum(probe["tries"] for probe in mine))
    return share, pause, min(MOST_SECONDS, time_limit(mine, share, pause))


def time_limit(probes: Sequence[Probe], in_flight: int, pause: int = 0) -> int:
    """Seconds in which the questions of one source are over even if none is answered: they fly in batches.

    + pause: microseconds between two of them, at least
    """
    tries = sum(probe["tries"] for probe in probes)
    batches = ceil(tries / in_flight)
    slowest = ceil(max(probe["deadline_s"] for probe in probes))
    begun = max(probe["tries"] for probe in probes) * 0.02 + tries * pause / 1_000_000
    return (batches + 1) * (slowest + 2) + ceil(begun) + 3


def longest(probes: Sequence[Probe], rate: int = RATE) -> int:
    """Seconds in which the script is over, whatever answers: its parts run side by side."""
    limits = [ping.overall_s(probe) + 2 for probe in probes if probe["protocol"] == "icmp"]
    for source in grouped(probes):
        questions = [probe for probe in probes if probe["source"] == source and probe["protocol"] != "icmp"]
        limits += [_pace(probes, questions, rate)[-1]] if questions else []
    return max(limits, default=0)


def _row(index: int, probe: Probe, first: int) -> str:
    wire.identifier(first + probe["tries"])
    fields = (
        index,
        probe["protocol"],
        probe["destination"],
        probe["port"],
        probe["tries"],
        round(probe["deadline_s"] * 1_000_000),
        first,
        wire.without_id(probe),
        dns.name.from_text(probe["name"]).to_text(),
        probe["rdtype"],
        probe["rdclass"],
    )
    return " ".join(map(str, fields))


def _echo(index: int, probe: Probe) -> str:
    return f"{index} {quote(probe['destination'])} {probe['tries']} {ping.wait_s(probe)} {ping.overall_s(probe)}"


def is_local(address: str) -> str:
    """A sh command that fails where the address is not a local one.

    /proc/net is the reader's own network namespace (proc(5)), and needs no tool that a node might lack; the
    formats are those of net/ipv4/fib_trie.c and net/ipv6/addrconf.c.
    """
    if not address:
        return ":"
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return f'grep -q "^{parsed.packed.hex()} " /proc/net/if_inet6'
    pattern = str(parsed).replace(".", "[.]")
    found = "{ getline; if (/32 host LOCAL/) found = 1 }"
    return f'awk "/^ *[|]-- {pattern}\\$/ {found} END {{ exit !found }}" /proc/net/fib_trie'
