"""A load test as a fact: one question many times at a fixed rate, from each of a node's sources, one after the other.

It is bounded on the node itself, three times over: by the sender's own limits, by the count and the time it is given,
and by timeout(1) around it. Nothing is installed and no file is written. dnsperf asks where the node has it and the
question is one that it can ask; otherwise python3. Where both are missing the answer is unknown: a shell cannot keep a
rate, and would measure itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import TypedDict

from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase

from models import proportions
from probes import blast_sender, dnsperf, wire
from probes.carry import is_local
from probes.probe import Probe, validate

#: For one node in one run, over all its addresses, sources and rates: a load test must not be the next outage.
MOST_QUESTIONS = 50_000
MOST_SECONDS = 60.0
MOST_RATE = 5_000


class Load(TypedDict):
    """`question` `rate` times a second for `seconds`, each with its deadline; its `tries` are not looked at."""

    question: Probe
    rate: int
    seconds: float


class Latency(TypedDict):
    """Of the answered questions, in milliseconds: the value that this share of them did not exceed (nearest rank)."""

    p50: float
    p90: float
    p99: float
    max: float


class Measured(TypedDict):
    """What a load came to.

    + source: "host" or "pod 172.26.2.145"; carrier: "python3", "dnsperf" or "" for none
    + planned, sent, received: questions; received: answered with NOERROR or NXDOMAIN before the deadline
    + outcomes: what became of the others that were sent: "timeout", "SERVFAIL", "Connection refused" ...
    + sent_pps, reply_pps: per second of asking; ratio: received of sent, None where nothing was sent
    + independent: what the questions are worth as a sample, see `models.proportions`
    + unknown: why this says nothing, or less than it should; "" otherwise
    """

    source: str
    carrier: str
    planned: int
    sent: int
    received: int
    outcomes: dict[str, int]
    sent_pps: float
    reply_pps: float
    ratio: float | None
    independent: float
    latency: Latency | None
    unknown: str


_SCRIPT = r"""
export LC_ALL=C
unset BASH_ENV ENV
printf '\n@blast loads %s\n' @LOADS@
load() {
  number=$1 class=$2 netns=$3 local=$4 limit=$5
  shift 5
  carrier=none
  if [ "$class" = IN ] && command -v dnsperf >/dev/null 2>&1; then carrier=dnsperf
  elif python3 -IBS -c 'import resource, selectors, socket' 2>/dev/null; then carrier=python3
  fi
  printf '@blast load %s %s\n' "$number" "$carrier"
  case $carrier in
    dnsperf) set -- sh -c @DNSPERF@ sh "$1" "$2" "$3" "${11}" "$5" "$7" "$8" "$9" "${10}" ;;
    python3) set -- python3 -IBS -c @PYTHON3@ "$1" "$2" "$3" "$4" "$5" "$6" ;;
    *) return ;;
  esac
  set -- sh -c "$local || { echo the address is not in this network namespace >&2; exit 3; }; exec \"\$@\"" sh "$@"
  [ -z "$netns" ] || set -- nsenter "--net=$netns" "$@"
  timeout -k 1 "$limit" "$@" 2>&1 </dev/null
}
"""

_LOADS = "@blast loads "
_COUNTED = re.compile(r"^@blast (sent|received)((?: \d{1,12})+)$")
_TOLD = re.compile(r"^@blast (unsent|outcome) (\d{1,12}) (.+)$")
_LATENCIES = re.compile(r"^@blast us((?: \d{1,12})+)$")
_TOOK = re.compile(r"^@blast took (\d{1,9}\.\d{1,9})$")
_LOAD = re.compile(r"^@blast load (\d{1,6}) (dnsperf|python3|none)$")
#: Characters of a line that are looked at: the sender prints no more.
_LINE = 4000


def planned(load: Load) -> int:
    """How many questions a load has."""
    return int(load["rate"] * load["seconds"])


def refusal(loads: Sequence[Load]) -> str:
    """Why these loads, all on one node, are too much; "" where they are not."""
    questions, seconds = sum(map(planned, loads)), sum(load["seconds"] for load in loads)
    if questions > MOST_QUESTIONS:
        return f"{questions} questions are more than the {MOST_QUESTIONS} that one node may be asked in a run"
    if seconds > MOST_SECONDS:
        return f"{seconds:.0f} s of asking are more than the {MOST_SECONDS:.0f} s that one node may take in a run"
    if any(not 1 <= load["rate"] <= MOST_RATE for load in loads):
        return f"a rate must be from 1 to {MOST_RATE} questions per second"
    return ""


def script(loads: Sequence[Load]) -> str:
    """The loads, one after the other. It ends with 0 whatever the node lacks; ValueError: what must not be asked."""
    problem = refusal(loads)
    if problem:
        raise ValueError(problem)
    calls = []
    for number, load in enumerate(loads):
        asked = load["question"]
        validate(asked)
        source = asked["source"]
        longest = blast_sender.longest(load["seconds"])
        limit = math.ceil(longest + asked["deadline_s"]) + 3
        arguments = (
            number,
            asked["rdclass"],
            source["netns"],
            is_local(source["address"]),
            limit,
            asked["destination"],
            asked["port"],
            load["rate"],
            load["seconds"],
            asked["deadline_s"],
            wire.without_id(asked),
            asked["name"],
            asked["rdtype"],
            planned(load),
            min(dnsperf.CLIENTS, planned(load)),
            longest,
        )
        calls.append("load " + " ".join(quote(str(argument)) for argument in arguments))
    texts = {
        "LOADS": json.dumps(list(loads), separators=(",", ":")),
        "DNSPERF": dnsperf.SCRIPT,
        "PYTHON3": Path(blast_sender.__file__).read_text(encoding="utf-8"),
    }
    head = re.sub(r"@([A-Z0-9]+)@", lambda match: quote(texts[match[1]]), _SCRIPT)
    return "\n".join([head.strip(), *calls, "echo @blast over"])


def read(loads: Sequence[Load], lines: Iterable[str]) -> list[Measured]:
    """One measurement per load, in their order. What the node did not say, or what does not add up, is unknown."""
    parts: dict[int, tuple[str, list[str]]] = {}
    current: list[str] = []
    for line in (line[:_LINE].rstrip() for line in lines):
        if match := _LOAD.match(line):
            current = []
            parts[int(match[1])] = (match[2], current)
        else:
            current.append(line)
    return [_measured(load, *parts.get(number, ("", []))) for number, load in enumerate(loads)]


def _measured(load: Load, carrier: str, lines: Sequence[str]) -> Measured:
    if carrier == "none":
        return nothing(load, "the node has no python3, and no dnsperf that can ask this")
    if "@blast end" not in lines:
        said = next((line for line in reversed(lines) if line and not line.startswith("@blast")), "")
        return nothing(load, said[:200] or "the node did not say what became of it")
    return _by_dnsperf(load, lines) if carrier == "dnsperf" else _by_python3(load, lines)


def _by_dnsperf(load: Load, lines: Sequence[str]) -> Measured:
    said = dnsperf.read(lines)
    if said is None:
        words = [line.removeprefix("@blast dnsperf ") for line in lines if "rror" in line]
        return nothing(load, f"dnsperf: {words[0][:200] if words else 'no statistics'}")
    worth = float(min(said.sent, dnsperf.CLIENTS))
    return _result(load, "dnsperf", said.sent, said.received, said.outcomes, said.seconds, worth, said.microseconds)


def _by_python3(load: Load, lines: Sequence[str]) -> Measured:
    counted: dict[str, list[int]] = {"sent": [], "received": []}
    outcomes: dict[str, int] = {}
    unsent: dict[str, int] = {}
    microseconds: list[int] = []
    took = 0.0
    for line in lines:
        if match := _COUNTED.match(line):
            counted[match[1]] = [int(number) for number in match[2].split()]
        elif match := _LATENCIES.match(line):
            microseconds += [int(number) for number in match[1].split()]
        elif match := _TOLD.match(line):
            (unsent if match[1] == "unsent" else outcomes)[match[3][:80]] = int(match[2])
        elif match := _TOOK.match(line):
            took = float(match[1])
    sent, received = counted["sent"], counted["received"]
    if len(sent) != len(received) or any(got > asked for asked, got in zip(sent, received, strict=True)):
        return nothing(load, "the node's figures do not add up")
    lost = [asked - got for asked, got in zip(sent, received, strict=True)]
    worth = proportions.independent(sent, lost)
    made = _result(load, "python3", sum(sent), sum(received), outcomes, took, worth, microseconds)
    if unsent and not made["unknown"]:
        made["unknown"] = ", ".join(f"{times} not sent: {why}" for why, times in unsent.items())
    return made


def _result(
    load: Load,
    carrier: str,
    sent: int,
    received: int,
    outcomes: dict[str, int],
    seconds: float,
    worth: float,
    microseconds: Sequence[int],
) -> Measured:
    wanted = planned(load)
    if not sent <= wanted or received + sum(outcomes.values()) != sent or len(microseconds) != received:
        return nothing(load, "the node's figures do not add up")
    late = f"only {sent} of {wanted} questions were sent in time" if sent < wanted * 0.9 else ""
    return {
        "source": load["question"]["source"]["name"],
        "carrier": carrier,
        "planned": wanted,
        "sent": sent,
        "received": received,
        "outcomes": outcomes,
        "sent_pps": round(sent / seconds, 1) if seconds else 0.0,
        "reply_pps": round(received / seconds, 1) if seconds else 0.0,
        "ratio": received / sent if sent else None,
        "independent": worth,
        "latency": latency(microseconds),
        "unknown": late or ("" if sent else "nothing was sent"),
    }


def nothing(load: Load, why: str) -> Measured:
    """A load of which nothing is known."""
    return {
        "source": load["question"]["source"]["name"],
        "carrier": "",
        "planned": planned(load),
        "sent": 0,
        "received": 0,
        "outcomes": {},
        "sent_pps": 0.0,
        "reply_pps": 0.0,
        "ratio": None,
        "independent": 0.0,
        "latency": None,
        "unknown": why,
    }


def latency(microseconds: Sequence[int]) -> Latency | None:
    """None without an answer."""
    if not microseconds:
        return None
    ordered = sorted(microseconds)
    p50, p90, p99, last = (
        ordered[max(0, math.ceil(len(ordered) * share) - 1)] / 1000 for share in (0.5, 0.9, 0.99, 1.0)
    )
    return {"p50": p50, "p90": p90, "p99": p99, "max": last}


class Blast(FactBase[list[Measured]]):
    """Puts load on a DNS server and counts what comes back. Needs root for a source in another network namespace.

    .. code:: python

        {
            "source": "pod 172.26.2.145",
            "carrier": "python3",
            "planned": 300,
            "sent": 300,
            "received": 300,
            "outcomes": {},
            "sent_pps": 100.0,
            "reply_pps": 100.0,
            "ratio": 1.0,
            "independent": 300.0,
            "latency": {"p50": 0.162, "p90": 0.241, "p99": 0.518, "max": 1.004},
            "unknown": "",
        }
    """

    asked: Sequence[Load] | None = None

    @staticmethod
    def default() -> list[Measured]:
        return []

    def command(self, loads: Sequence[Load]) -> str:
        self.asked = loads
        return script(loads)

    def process(self, output: Iterable[str]) -> list[Measured]:
        lines = list(output)
        told = next((line for line in lines if line.startswith(_LOADS)), None)
        if told is None:
            raise FactProcessError("the node printed something else than a load test's output")
        # What was asked is known here: a node that tells of other loads has carried none of these.
        return read(json.loads(told.removeprefix(_LOADS)) if self.asked is None else self.asked, lines)
