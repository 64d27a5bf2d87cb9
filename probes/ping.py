"""ICMP echo with the node's ping, of iputils or busybox, and how its output is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil

from probes.errors import outcome_of
from probes.probe import Probe, Try

INTERVAL_S = 0.2
"""The shortest that iputils lets an unprivileged user have (ping(8), -i)."""

SCRIPT = r"""
while [ $# -ge 5 ]; do
  { timeout -s INT -k 1 "$5" ping -n -c "$3" -i 0.2 -W "$4" "$2"; } 2>&1 |
    while IFS= read -r line; do printf "@dns ping %s %s\n" "$1" "$line"; done &
  shift 5
done
wait
"""
"""Arguments, for each probe: its number, destination, count, seconds to wait for the last reply, seconds overall.
SIGINT lets ping print what it has; a ping that is not there says so in its own section."""

_REPLY = re.compile(r"^\d+ bytes from .*\b(?:icmp_)?seq=(\d{1,6})\b.*\btime[=<](\d{1,9}(?:\.\d{1,9})?) ?ms")
_ERROR = re.compile(r"^From \S+.* icmp_seq=(\d{1,6}) (.+)$")
_COMPLAINT = re.compile(r"^(?:ping|timeout|sh)\b.*: (?!Warning)")
_SUMMARY = re.compile(r"^(\d{1,9}) packets transmitted")


def wait_s(probe: Probe) -> int:
    """Whole seconds: what every ping takes for -W."""
    return ceil(probe["deadline_s"])


def overall_s(probe: Probe) -> int:
    """How long all the tries of the probe may take."""
    return ceil(probe["tries"] * INTERVAL_S) + wait_s(probe) + 1


def attempts(probe: Probe, lines: Sequence[str]) -> list[Try]:
    """What ping printed about all tries of the probe.

    Replies are told apart by their sequence number, which starts with 1 (iputils) or 0 (busybox).
    """
    replies: dict[int, float] = {}
    errors: dict[int, str] = {}
    transmitted = 0
    for line in lines:
        if match := _REPLY.match(line):
            replies.setdefault(int(match[1]), float(match[2]))
        elif match := _ERROR.match(line):
            errors[int(match[1])] = match[2]
        elif match := _SUMMARY.match(line):
            transmitted = int(match[1])
    complaint = next((line for line in lines if _COMPLAINT.match(line)), "")
    first = 0 if 0 in replies or any(": seq=" in line for line in lines) else 1
    return [
        _attempt(probe, replies.get(number), errors.get(number, ""), number - first < transmitted, complaint)
        for number in range(first, first + probe["tries"])
    ]


def _attempt(probe: Probe, rtt_ms: float | None, error: str, transmitted: bool, complaint: str) -> Try:
    attempt: Try = {"outcome": "timeout", "rtt_ms": None, "rcode": None, "answers": [], "detail": error}
    if rtt_ms is not None and rtt_ms <= probe["deadline_s"] * 1000:
        attempt["outcome"] = "answered"
        attempt["rtt_ms"] = rtt_ms
    elif rtt_ms is not None:
        attempt["detail"] = f"the reply came after {rtt_ms} ms"
    elif error:
        attempt["outcome"] = "unreachable"
    elif complaint or not transmitted:
        attempt["outcome"] = outcome_of(complaint, "icmp")
        attempt["detail"] = complaint or "ping did not get to it"
    return attempt
