"""Ask, and see at several interfaces of the node at once where the packets come by.

tcpdump(8), or python3 where a node has none, writes to a pipe, never to a file. Its captures, the questions and the end
hang together by two pipes:

    captures --(their process ids; "listening")--> ask --(process ids)--> stop

`ask` waits until every capture listens, asks, and ends; `stop` reads process ids until there are no more of them, then
ends these processes. So the captures end with the questions, also where the script is killed in the middle; and each
has limits of its own in packets, bytes and seconds, whatever happens to the rest. Nothing is installed and no file is
written; the interfaces are not made promiscuous.

    @capture missing TOOL
    @capture data N BASE64     the next bytes of capture N
    @capture said N TEXT       what went wrong, or how many packets were lost
    @capture end
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import TypedDict

from pyinfra.api.exceptions import FactProcessError
from pyinfra.api.facts import FactBase
from typing_extensions import override

from probes import sniff, wire
from probes.capture_filter import Point, expression, packed
from probes.carry import RATE, carry, time_limit
from probes.probe import Probe, Result
from probes.read import probes_of, read

#: Limits of one capture: packets, bytes of the file, bytes of each packet.
PACKETS = 2000
BYTES = 400_000
SNAP = 400
#: Captures at once on one node.
MOST_POINTS = 8
#: Seconds that no capture may outlast.
MOST_SECONDS = 60
#: A late answer may still come so long after the last question.
_LATE = 0.3
#: Bytes between a message's id and its question.
_BEFORE = 10


class Capture(TypedDict):
    """What one interface saw.

    + pcap: a file as tcpdump writes it
    + full: a limit was reached, so that what is not in it may have come by all the same
    + problem: why there is no capture, in the tool's words; "" if there is one
    """

    point: Point
    pcap: bytes
    full: bool
    problem: str


class Answered(TypedDict):
    """Captures by point, and what became of the questions meanwhile. `missing`: the tool that the node lacks."""

    captures: list[Capture]
    results: list[Result]
    missing: str


SCRIPT = r"""
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin"
printf '\n@capture points %s\n' @POINTS@
exec 4>&1
for tool in timeout base64 nsenter; do
    command -v $tool >/dev/null 2>&1 || { echo "@capture missing $tool"; exit 0; }
done
python3=
if ! command -v tcpdump >/dev/null 2>&1; then
    python3 -IBS -c 'import socket; socket.AF_PACKET' 2>/dev/null || { echo "@capture missing tcpdump"; exit 0; }
    python3=yes
fi
capture() {
    number=$1 netns=$2 inode=$3 interface=$4 filter=$5
    if [ -n "$python3" ]; then
        set -- python3 -IBS -c @SNIFF@ "$interface" @PACKETS@ @SNAP@ "$6" @QUESTIONS@ @PORTS@
    else
        set -- tcpdump -i "$interface" -p -n -U --immediate-mode -s @SNAP@ -c @PACKETS@ -w - "$filter"
    fi
    if [ -n "$netns" ]; then
        [ "$(readlink "$netns")" = "net:[$inode]" ] || {
            echo "@capture said $number the process is no longer in its network namespace" >&4
            echo "over $number"
            return
        }
        set -- nsenter "--net=$netns" "$@"
    fi
    {
        sh -c 'echo "pid $$" >&2; exec "$@"' sh timeout -k 1 @SECONDS@ "$@" 2>&3 3>&- 4>&- </dev/null |
            head -c @BYTES@ | base64 -w 3000 |
            while IFS= read -r line; do printf '@capture data %s %s\n' "$number" "$line"; done >&4
    } 3>&1 | while IFS= read -r line; do
        case $line in
            "pid "*) echo "$line" ;;
            *"listening on "*) echo "listening $number" ;;
            *) printf '@capture said %s %s\n' "$number" "$line" >&4 ;;
        esac
    done
    echo "over $number"
}
ask() {
    ready=" " waiting=@COUNT@
    while [ "$waiting" -gt 0 ] && read -r word number; do
        case $word in
            pid) echo "$number" ;;
            *) case $ready in *" $number "*) ;; *) ready="$ready$number " waiting=$((waiting - 1)) ;; esac ;;
        esac
    done
    sh -c @ASK@ </dev/null >&4 2>/dev/null
    sleep @LATE@
}
stop() {
    pids=
    while read -r pid; do pids="$pids $pid"; done
    for pid in $pids; do
        read -r name <"/proc/$pid/comm" && [ "$name" = timeout ] && kill "$pid"
    done
}
{
@STARTS@
    wait
} 2>/dev/null | ask | stop 2>/dev/null
echo @capture end
"""

#: What stands in the script's places whatever is captured.
FIXED = {
    "SNAP": str(SNAP),
    "PACKETS": str(PACKETS),
    "BYTES": str(BYTES),
    "LATE": str(_LATE),
    "SNIFF": quote(Path(sniff.__file__).read_text(encoding="utf-8")),
}


def script(points: Sequence[Point], probes: Sequence[Probe], ports: Iterable[int] = (), rate: int = RATE) -> str:
    """The script. It ends with 0 whatever the node lacks. Raises ValueError for what cannot be captured or asked.

    + ports: on which servers beyond the probes' own destinations are asked
    + rate: tries that begin in a second, at most
    """
    if not 1 <= len(points) <= MOST_POINTS:
        raise ValueError(f"{len(points)} interfaces to capture at is not between 1 and {MOST_POINTS}")
    asking = carry(probes, rate)
    questions = [probe for probe in probes if probe["protocol"] != "icmp"]
    every = sorted({53, *ports, *(probe["port"] for probe in questions)})
    starts = [
        f"    capture {number} {quote(point['netns'])} {point['inode']} {quote(point['interface'])} "
        f"{quote(expression(point, questions, every))} {quote(packed(point['host']))} &"
        for number, point in enumerate(points)
    ]
    texts = FIXED | {
        "POINTS": quote(json.dumps(list(points), separators=(",", ":"))),
        "SECONDS": str(min(MOST_SECONDS, time_limit(questions, len(questions), 1_000_000 // rate) + 5)),
        "COUNT": str(len(points)),
        "ASK": quote(asking),
        "STARTS": "\n".join(starts),
        "QUESTIONS": ",".join(sorted({wire.without_id(probe)[2 * _BEFORE :] for probe in questions})),
        "PORTS": ",".join(map(str, every)),
    }
    return re.sub(r"@([A-Z0-9]+)@", lambda match: texts[match[1]], SCRIPT).strip()


class Captured(FactBase[Answered]):
    """Asks the probes while the node's interfaces are captured.

    + points: where, at most `MOST_POINTS`
    + probes: what is asked meanwhile
    + ports: on which servers beyond the probes' own destinations are asked, 53 apart
    + rate: tries that begin in a second, at most

    Needs root. A node without tcpdump and python3 says so in `missing`, and nothing is asked then.

    .. code:: python

        {"captures": [{"point": {"interface": "bond0", ...}, "pcap": b"...", "full": False, "problem": ""}, ...],
         "results": [...], "missing": ""}
    """

    at: Sequence[Point] | None = None
    asked: Sequence[Probe] | None = None

    def command(
        self, points: Sequence[Point], probes: Sequence[Probe], ports: Sequence[int] = (), rate: int = RATE
    ) -> str:
        self.at, self.asked = points, probes
        return script(points, probes, ports, rate)

    @override
    def process(self, output: Iterable[str]) -> Answered:
        return captured(output, self.at, self.asked)


def captured(
    output: Iterable[str], at: Sequence[Point] | None = None, asked: Sequence[Probe] | None = None
) -> Answered:
    """What the script printed. Raises FactProcessError where it is something else.

    + at, asked: where was captured, and what was asked; the node's own word is taken where they are not given
    """
    points: Sequence[Point] | None = None
    data: dict[int, list[str]] = defaultdict(list)
    said: dict[int, list[str]] = defaultdict(list)
    missing = ""
    lines = list(output)
    for line in lines:
        if not line.startswith("@capture "):
            continue
        _, word, rest = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" "), "")
        number, _, text = rest.partition(" ")
        if word == "points" and points is None:
            points = json.loads(rest) if at is None else at
        elif word == "missing":
            missing = rest
        elif word in ("data", "said") and number.isdecimal() and len(number) < 4:
            (data if word == "data" else said)[int(number)].append(re.sub(r"[^ -~]", "?", text.strip()))
    if points is None:
        raise FactProcessError("the node printed something else than the captures' output")
    told = probes_of(lines)
    probes = told if told is None or asked is None else asked
    return {
        "captures": [_capture(point, data[number], said[number]) for number, point in enumerate(points)],
        "results": read(probes, lines) if probes else [],
        "missing": missing,
    }


def _capture(point: Point, data: Sequence[str], said: Sequence[str]) -> Capture:
    counts = {
        match[2]: int(match[1])
        for text in said
        if (match := re.match(r"(\d{1,12}) packets? (captured|received by filter|dropped by kernel)", text))
    }
    try:
        pcap = base64.b64decode("".join(data), validate=True)[:BYTES]
    except binascii.Error:
        pcap = b""
    problem = "" if pcap else "; ".join(said)[:300] or "the capture gave nothing"
    full = bool(counts.get("dropped by kernel")) or counts.get("captured", 0) >= PACKETS or len(pcap) >= BYTES
    return {"point": point, "pcap": pcap, "full": full, "problem": problem}
