"""From what the node printed to what became of each try. Pure: the lines are all it needs."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from probes import dig, ping, wire
from probes.carry import first_try, grouped
from probes.errors import outcome_of
from probes.probe import Outcome, Probe, Result, Try, validate

_N = r"(\d{1,6})"
_TRY = re.compile(rf"^@dns try {_N} {_N} (-?\d{{1,12}}) (answer|timeout|closed|error) ?(.*)$")
_DATA = re.compile(rf"^@dns data {_N} {_N} ((?:[0-9a-f]{{2}})+)$")
_DIG = re.compile(rf"^@dns dig {_N} {_N} (.*)$")
_PING = re.compile(rf"^@dns ping {_N} (.*)$")
_SOURCE = re.compile(rf"^@dns (carrier|stderr) {_N} (.*)$")
_PROBES = "@dns probes "
#: Characters of a line, and bytes of an answer, that are looked at: carriers print no more, a message holds no more.
_LINE = 2000
_LONGEST = 65_535

_STATES: dict[str, Outcome] = {"timeout": "timeout", "closed": "closed"}


class _Records:
    """The lines by what they are about. Anything else, such as a login banner, is passed over."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.carriers: dict[int, str] = {}
        self.complaints: dict[int, str] = {}
        self.tries: dict[tuple[int, int], tuple[int, str, str]] = {}
        self.data: dict[tuple[int, int], list[str]] = defaultdict(list)
        self.dig: dict[tuple[int, int], list[str]] = defaultdict(list)
        self.ping: dict[int, list[str]] = defaultdict(list)
        for line in (line[:_LINE].rstrip() for line in lines):
            if match := _TRY.match(line):
                self.tries[int(match[1]), int(match[2])] = (int(match[3]), match[4], match[5])
            elif match := _DATA.match(line):
                self.data[int(match[1]), int(match[2])].append(match[3])
            elif match := _DIG.match(line):
                self.dig[int(match[1]), int(match[2])].append(match[3])
            elif match := _PING.match(line):
                self.ping[int(match[1])].append(match[2])
            elif match := _SOURCE.match(line):
                if match[1] == "carrier":
                    self.carriers[int(match[2])] = match[3]
                else:
                    self.complaints.setdefault(int(match[2]), match[3])


def probes_of(lines: Iterable[str]) -> list[Probe] | None:
    """The probes that the output is about; None: it is not the output of `carry`'s script."""
    for line in lines:
        if line.startswith(_PROBES):
            try:
                probes: list[Probe] = json.loads(line.removeprefix(_PROBES))
                for probe in probes:
                    validate(probe)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                return None
            return probes
    return None


def read(probes: Sequence[Probe], lines: Iterable[str]) -> list[Result]:
    """One result per probe, with as many tries as it has.

    A try that the node said nothing about is `not sent`.
    """
    records = _Records(lines)
    sources = grouped(probes)
    alike = _Alike()
    results: list[Result] = []
    for index, probe in enumerate(probes):
        number = sources.index(probe["source"])
        missing = records.complaints.get(number, "the node did not say what became of it")
        if probe["protocol"] == "icmp":
            said = records.ping.get(index)
            silent = [_try("not sent", missing) for _ in range(probe["tries"])]
            tries = ping.attempts(probe, said) if said else silent
            results.append({"probe": probe, "carrier": "ping" if said else "", "tries": tries})
            continue
        carrier = records.carriers.get(number, "")
        if carrier == "none":
            carrier, missing = "", "the node has neither bash nor python3 nor dig"
        first = first_try(probes, index)
        numbers = range(probe["tries"])
        tries = [_question(probe, (index, nth), first + nth, records, missing, alike) for nth in numbers]
        results.append({"probe": probe, "carrier": carrier, "tries": tries})
    return results


class _Alike:
    """Answers that differ in nothing but their id are read once: to read hundreds of each would take most of a run."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str, str], Try] = {}

    def answer(self, probe: Probe, number: int, message: str) -> Try:
        """The answer in hex, as `_answer` reads it."""
        identifier, rest = message[:4], message[4:]
        if identifier != f"{wire.identifier(number):04x}":
            return _answer(probe, number, bytes.fromhex(message))
        key = (probe["name"], probe["rdtype"], probe["rdclass"], rest)
        if key not in self.known:
            self.known[key] = _answer(probe, number, bytes.fromhex(message))
        return self.known[key].copy()


def _question(probe: Probe, key: tuple[int, int], number: int, records: _Records, missing: str, alike: _Alike) -> Try:
    if key in records.dig:
        return _expected(probe, dig.attempt(probe, records.dig[key]))
    if key not in records.tries:
        return _try("not sent", missing)
    microseconds, state, text = records.tries[key]
    if state == "answer":
        answered = alike.answer(probe, number, "".join(records.data.get(key, ())))
        answered["rtt_ms"] = max(0, microseconds) / 1000
        return _expected(probe, answered)
    outcome = _STATES.get(state) or outcome_of(text, probe["protocol"])
    return _try(outcome, _reason(text, whole=outcome == "not sent"))


def _answer(probe: Probe, number: int, message: bytes) -> Try:
    if len(message) > _LONGEST:
        return _try("bad answer", f"{len(message)} bytes, more than a DNS message holds")
    try:
        response = dns.message.from_wire(message, ignore_trailing=True)
    except dns.exception.DNSException as error:
        return _try("bad answer", f"{len(message)} bytes that are not a DNS message: {error}")
    query = wire.query(probe, number)
    if response.id != query.id:
        return _try("bad answer", f"id {response.id} instead of {query.id}")
    if not query.is_response(response):
        asked = ", ".join(map(str, response.question)) or "nothing"
        return _try("bad answer", f"not the answer to this question but to {asked}")
    attempt = _try("answered", "truncated" if response.flags & dns.flags.TC else "")
    attempt["rcode"] = dns.rcode.to_text(response.rcode())
    attempt["answers"] = [str(rdata) for rrset in response.answer for rdata in rrset]
    return attempt


def _reason(text: str, *, whole: bool) -> str:
    """`bash: connect: Connection refused; ...` without what says no more, where the reason is a known one."""
    first = text.split("; ")[0].rstrip("; ")
    return first if whole else first.rpartition(": ")[2]


def _expected(probe: Probe, attempt: Try) -> Try:
    if attempt["outcome"] == "answered" and probe["rcodes"] and attempt["rcode"] not in probe["rcodes"]:
        attempt["outcome"] = "bad answer"
        attempt["detail"] = f"{attempt['rcode']} instead of {' or '.join(probe['rcodes'])}"
    return attempt


def _try(outcome: Outcome, detail: str) -> Try:
    return {"outcome": outcome, "rtt_ms": None, "rcode": None, "answers": [], "detail": detail}
