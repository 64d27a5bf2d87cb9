"""Ask many times with the node's own dnsperf, and read what it printed. dnsperf 2.5 or newer (DNS-OARC).

It asks for names of class IN alone, and sends from one source port per client: conntrack and IPVS see that many
clients, so that many questions at most count as independent ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

#: Clients, and so source ports, at most.
CLIENTS = 200

#: Arguments: address, port, questions per second, seconds at most, seconds to wait, name, type, count, clients.
#: -q is above all that can be outstanding: else dnsperf waits for answers, and a slow server slows the asking down.
#: The input is the bound on the count; -n 1 takes it once. -v tells each answer's time; "> T" is a timeout.
SCRIPT = r"""
yes "$6 $7" | head -n "$8" | dnsperf -s "$1" -p "$2" -Q "$3" -l "$4" -t "$5" -n 1 -c "$9" -q 65536 -v 2>&1 |
  sed -n -e 's/^> \([A-Z0-9]*\) .* \([0-9.]*\)$/@blast answer \1 \2/p' -e 's/^  *\([A-Z]\)/@blast dnsperf \1/p' \
         -e 's/^\(.*[Ee]rror.*\)/@blast dnsperf \1/p'
echo @blast end
"""

_ANSWER = re.compile(r"^@blast answer ([A-Z0-9]+) (\d{1,9}\.\d{1,9})$")
_FIGURE = re.compile(r"^@blast dnsperf (Queries sent|Queries completed|Queries lost|Queries interrupted): +(\d{1,12})")
_TIME = re.compile(r"^@blast dnsperf Run time \(s\): +(\d{1,9}\.\d{1,9})$")
_CODES = re.compile(r"([A-Z0-9]{1,20}) (\d{1,12}) \(")


class Said(NamedTuple):
    """What dnsperf counted. `sent` has no question in it whose fate dnsperf did not wait for."""

    sent: int
    received: int
    outcomes: dict[str, int]
    seconds: float
    microseconds: list[int]


def read(lines: Sequence[str]) -> Said | None:
    """None where its statistics are not there: it did not run to its end."""
    figures: dict[str, int] = {}
    outcomes: Counter[str] = Counter()
    seconds: float | None = None
    microseconds: list[int] = []
    for line in lines:
        if match := _ANSWER.match(line):
            if match[1] in ("NOERROR", "NXDOMAIN"):
                microseconds.append(round(float(match[2]) * 1e6))
        elif match := _FIGURE.match(line):
            figures[match[1]] = int(match[2])
        elif match := _TIME.match(line):
            seconds = float(match[1])
        elif line.startswith("@blast dnsperf Response codes:"):
            outcomes.update({name: int(times) for name, times in _CODES.findall(line)})
    if seconds is None or not {"Queries sent", "Queries completed", "Queries lost"} <= set(figures):
        return None
    received = outcomes.pop("NOERROR", 0) + outcomes.pop("NXDOMAIN", 0)
    if figures["Queries lost"]:
        outcomes["timeout"] = figures["Queries lost"]
    return Said(figures["Queries completed"] + figures["Queries lost"], received, dict(outcomes), seconds, microseconds)
