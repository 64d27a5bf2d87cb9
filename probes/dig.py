"""Ask with dig, where a node has neither bash nor python3, and read what it prints.

dig asks by itself: it chooses ids, checks the answers and keeps the time. Its deadlines are whole seconds, and
starting it costs the node 10 ms or so per try.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from probes.errors import outcome_of
from probes.probe import Probe, Try

SCRIPT = r"""
set -f
in_flight=$1 flying=0 round=0 more=1
apart=$(($2 / 1000000)).$(printf %06d $(($2 % 1000000)))
shift 2
export HOME=/nonexistent
ask() {
  [ "$2" = tcp ] && over=+tcp || over=+notcp
  timeout -k 1 $(($6 / 1000000 + 3)) dig "@$3" -p "$4" -u +tries=1 "+time=$((($6 + 999999) / 1000000))" $over \
    +ignore +noedns +nosearch -t "${10}" -c "${11}" -q "$9" 2>&1 | {
    # Of a message that it cannot read, dig prints every byte.
    left=200
    while [ $((left -= 1)) -ge 0 ] && IFS= read -r line; do printf "@dns dig %s %s %s\n" "$1" "$round" "$line"; done
  }
}
while [ $more = 1 ]; do
  more=0
  for row; do
    tries=${row#* * * * }
    [ $round -lt "${tries%% *}" ] || continue
    more=1 flying=$((flying + 1))
    ask $row &
    sleep "$apart"
    [ $((flying % in_flight)) != 0 ] || wait
  done
  round=$((round + 1))
  sleep 0.01
done
wait
"""
"""Arguments: as for `probes.bash`."""

_HEADINGS = ("dig 9", "global options", "server found")
_STATUS = re.compile(r"^;; ->>HEADER<<- .*\bstatus: (\w+)")
_TIME = re.compile(r"^;; Query time: (\d{1,12}) (usec|msec)")
_FLAGS = re.compile(r"^;; flags: (?P<flags>[a-z ]*); QUERY: (?P<asked>\d+),")
#: dig prints these, and then what it makes of the message all the same.
_MALFORMED = ("Got bad packet", "malformed message", "response not set", "short (< header size)")
#: A server that cannot read a question answers without one (RFC 1035, 4.1.1).
_UNREAD = ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED")
_RECORD = re.compile(r"^[^;\s]\S*\s+\d+\s+\S+\s+\S+\s+(?P<rdata>.+)$")


def attempt(probe: Probe, lines: Sequence[str]) -> Try:
    """What dig printed about one try. Written for and tested with dig 9.11 to 9.18 output."""
    rcode: str | None = None
    rtt_ms: float | None = None
    answers: list[str] = []
    section = ""
    odd = next((line.lstrip("; ") for line in lines if any(words in line for words in _MALFORMED)), "")
    for line in lines:
        if match := _STATUS.match(line):
            rcode = match[1]
        elif match := _FLAGS.match(line):
            if "qr" not in match["flags"].split():
                odd = odd or "a question in the place of an answer"
            elif match["asked"] != "1" and rcode not in _UNREAD:
                odd = odd or "not the answer to this question but to nothing"
        elif match := _TIME.match(line):
            rtt_ms = int(match[1]) / (1000 if match[2] == "usec" else 1)
        elif line.startswith(";; ") and line.endswith(" SECTION:"):
            section = line
        elif section == ";; ANSWER SECTION:" and (match := _RECORD.match(line)):
            answers.append(match["rdata"])
    complaint = next((line.lstrip("; ") for line in lines if _complains(line)), "")
    if not odd and rcode is None:
        # dig goes on waiting after an answer with another id or question.
        odd = next((line.lstrip("; ") for line in lines if "mismatch" in line), "")
    if odd:
        return {"outcome": "bad answer", "rtt_ms": None, "rcode": None, "answers": [], "detail": odd[:200]}
    if rcode is None or rtt_ms is None:
        return {
            "outcome": outcome_of(complaint, probe["protocol"]),
            "rtt_ms": None,
            "rcode": None,
            "answers": [],
            "detail": complaint or "dig said nothing",
        }
    if rtt_ms > probe["deadline_s"] * 1000:
        late = f"the answer came after {rtt_ms} ms"
        return {"outcome": "timeout", "rtt_ms": None, "rcode": None, "answers": [], "detail": late}
    return {"outcome": "answered", "rtt_ms": rtt_ms, "rcode": rcode, "answers": answers, "detail": ""}


def _complains(line: str) -> bool:
    text = line.lower()
    return bool(text.strip("; ")) and not any(words in text for words in _HEADINGS)
