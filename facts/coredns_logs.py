"""What a node's CoreDNS containers have complained about, from the files that the kubelet keeps of their output."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class LogGroup(TypedDict):
    """Lines of one file that say the same but for the name that was asked, the client's port and the time.

    + file: below /var/log; pod: namespace and name, "kube-system/coredns-7c9d-abcde"; crictl's id where no file is
    + level: "ERROR", "FATAL", "WARNING", "PANIC", or "KLOG" for what CoreDNS's Kubernetes client says
    + text: what they have in common; example: the last of them as it stands
    + times: how many, those that CoreDNS had summed up itself among them; first, last: UTC, ISO 8601
    + since: when the last spell of them began, before which none came for an hour; spell: how many there were in it
    """

    file: str
    pod: str
    level: str
    text: str
    example: str
    times: int
    first: str
    last: str
    since: str
    spell: int


#: The newest files, and bytes from the end of each, that are looked through: a kubelet rotates at 10 MB.
FILES = 12
BYTES = 4_000_000
#: Different complaints of one file.
GROUPS = 100
#: Seconds without a complaint that end a spell of them.
PAUSE = 3600
#: Characters of a line that are looked at.
WIDTH = 600

# Both containerd's format (TIME STREAM TAG LINE) and Docker's (JSON) have the time in front or at the end of the line.
# "N errors like '...' occurred in last 30s" is CoreDNS's own sum (option consolidate of its plugin errors).
_GROUP = rf"""
# Only differences count: months of 31 days make a pause longer at most, and a change of the offset an hour.
function seconds(text) {{
    return (((substr(text, 1, 4) * 12 + substr(text, 6, 2)) * 31 + substr(text, 9, 2)) * 24 \
        + substr(text, 12, 2)) * 3600 + substr(text, 15, 2) * 60 + substr(text, 18, 2)
}}
function complaint(line) {{
    if (match(line, /\[(ERROR|FATAL|WARNING|PANIC)\] /)) return substr(line, RSTART, {WIDTH})
    if (match(line, /[EFW][0-9][0-9][0-9][0-9] [0-9:.]+ +[0-9]+ [a-z_]+\.go:[0-9]+\] /))
        return "[KLOG] " substr(line, RSTART + RLENGTH, {WIDTH})
    if (match(line, /panic: /)) return "[PANIC] " substr(line, RSTART, {WIDTH})
    return ""
}}
{{
    said = complaint($0)
    if (said == "") next
    if ($0 ~ /^{{"log":/) {{
        if (!match($0, /"time":"[^"]*"/)) next
        when = substr($0, RSTART + 8, RLENGTH - 9)
        sub(/(\\n)?","(stream|attrs)":.*$/, "", said)
        gsub(/\\u003e/, ">", said)
    }} else when = $1
    if (when !~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:/) next
    count = 1
    group = said
    if (match(group, /[0-9]+ errors like /)) {{
        count = substr(group, RSTART, RLENGTH) + 0
        sub(/[0-9]+ errors like /, "errors like ", group)
    }}
    hinfo = group ~ /^\[ERROR\] (plugin\/errors: )?[0-9-]+ [^ ]* HINFO: /
    if (sub(/^\[ERROR\] (plugin\/errors: )?[0-9-]+ [^ ]* [A-Z0-9]+: /, "", group))
        group = "[ERROR] plugin/errors: " (hinfo ? "HINFO: " : "") group
    gsub(/:[0-9]+->/, "->", group)
    gsub(/:[0-9]+ -> /, " -> ", group)
    sub(/HINFO (IN )?[0-9]+\.[0-9]+/, "HINFO N", group)
    if (!(group in times)) {{
        if (++groups > {GROUPS}) group = "[ERROR] more than {GROUPS} different complaints"
        if (!(group in times)) {{ order[++kept] = group; first[group] = when }}
    }}
    if (!(group in last) || seconds(when) - seconds(last[group]) > {PAUSE}) {{ since[group] = when; spell[group] = 0 }}
    times[group] += count; spell[group] += count; last[group] = when; example[group] = said
}}
END {{
    for (i = 1; i <= kept; i++) {{
        group = order[i]
        print "group", times[group], first[group], last[group], since[group], spell[group]
        print "= " group "\n= " example[group]
    }}
}}
"""

_SCRIPT = r"""
summary() { tr '\t\r' '  ' | awk @GROUP@; }
cd /var/log || exit 1
files=$(ls -t pods/*_coredns*/*/*.log pods/*_node-local-dns*/*/*.log pods/*_*kube-dns*/*/*.log 2>/dev/null)
[ -n "$files" ] || files=$(ls -t containers/coredns*.log containers/node-local-dns*.log 2>/dev/null)
if [ -n "$files" ]; then
    total=$(printf '%s\n' "$files" | wc -l)
    [ "$total" -le @FILES@ ] || echo "truncated: @FILES@ of $total files" >&2
    printf '%s\n' "$files" | head -n @FILES@ | while IFS= read -r file; do
        size=$(wc -c <"$file") || { echo "permission denied: /var/log/$file" >&2; continue; }
        [ "$size" -le @BYTES@ ] || echo "truncated: the last @BYTES@ of $size bytes of $file" >&2
        echo "file $file"
        tail -c @BYTES@ "$file" | summary
    done
    exit 0
fi
# A runtime may keep its logs elsewhere: it knows where.
command -v crictl >/dev/null || exit 0
crictl ps -a -q --name coredns | head -n @FILES@ | while read -r id; do
    echo "file crictl/$id"
    crictl logs --timestamps --tail 20000 "$id" 2>&1 | tail -c @BYTES@ | summary
done
"""


class CoreDnsLogs(NodeFact[list[LogGroup]]):
    """What the CoreDNS (and NodeLocal DNS) containers of the node complained about. Needs root.

    "empty": no such log on the node, or no complaint in it. Source: /var/log/pods and /var/log/containers as the
    kubelet keeps them, else crictl(1); the lines of coredns/plugin/errors, /loop, /kubernetes and /health.

    .. code:: python

        [{"file": "pods/kube-system_coredns-7c9d-abcde_uid/coredns/0.log", "pod": "kube-system/coredns-7c9d-abcde",
          "level": "ERROR", "text": "plugin/errors: read udp 10.244.0.5->172.25.4.1:53: i/o timeout",
          "example": "plugin/errors: 2 google.com. A: read udp 10.244.0.5:44444->172.25.4.1:53: i/o timeout",
          "times": 312, "first": "2026-11-22T03:00:00Z", "last": "2026-11-22T03:14:59Z",
          "since": "2026-11-22T03:00:00Z", "spell": 312}]
    """

    limit = 30
    script = (
        _SCRIPT.replace("@GROUP@", "'" + _GROUP.replace("'", "'\\''") + "'")
        .replace("@FILES@", str(FILES))
        .replace("@BYTES@", str(BYTES))
    )

    @override
    def read(self, output: list[str]) -> list[LogGroup]:
        found: list[LogGroup] = []
        file = ""
        lines = iter(filter(None, output))
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "file":
                file = rest
                continue
            if word != "group":
                raise ValueError(f"unknown line {line!r}")
            times, first, last, since, spell = rest.split(" ")
            text, example = next(lines, "")[2:], next(lines, "")[2:]
            level, _, text = text[1:].partition("] ")
            found.append(
                {
                    "file": file,
                    "pod": _pod(file),
                    "level": level,
                    "text": _plain(text),
                    "example": _plain(example.partition("] ")[2]),
                    "times": int(times),
                    "first": utc(first),
                    "last": utc(last),
                    "since": utc(since),
                    "spell": int(spell),
                }
            )
        return found


#: `kubectl logs --prefix --timestamps`.
_PREFIXED = re.compile(r"\[pod/([^/\]]+)/[^\]]*\] (\d{4}-\d\d-\d\dT\S+) (.*)")
_KLOG = re.compile(r"[EFW]\d{4} [\d:.]+ +\d+ [a-z_]+\.go:\d+\] ")


def of_kubectl(namespace: str, text: str) -> list[LogGroup]:
    """The complaints in what kubectl prints, one group for each line: `models.coredns_log` sums them up."""
    found: list[LogGroup] = []
    for line in text.splitlines():
        match = _PREFIXED.match(line[:WIDTH])
        level, said = _complaint(match[3]) if match else ("", "")
        if not match or not level:
            continue
        try:
            time = utc(match[2])
        except ValueError:
            continue
        count = re.search(r"(\d+) errors like ", said)
        times = int(count[1]) if count else 1
        pod = f"{namespace}/{match[1]}"
        found.append(
            {
                "file": f"kubectl/{pod}",
                "pod": pod,
                "level": level,
                "text": said,
                "example": said,
                "times": times,
                "first": time,
                "last": time,
                "since": time,
                "spell": times,
            }
        )
    return found


def _complaint(line: str) -> tuple[str, str]:
    """The line's level and what it says; "" for one that is no complaint."""
    if match := re.search(r"\[(ERROR|FATAL|WARNING|PANIC)\] (.*)", line):
        return match[1], match[2]
    if match := _KLOG.search(line):
        return "KLOG", line[match.end() :]
    return ("PANIC", line) if "panic: " in line else ("", "")


def utc(text: str) -> str:
    """RFC 3339 with any offset and fraction as UTC to the second. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(text: str) -> str:
    """Docker's logs are JSON: a quote in a message is escaped there."""
    if '\\"' not in text and "\\u" not in text:
        return text.strip()
    try:
        return str(json.loads(f'"{text}"')).strip()
    except ValueError:
        return text.strip()


def _pod(file: str) -> str:
    """`pods/NAMESPACE_POD_UID/...`, `containers/POD_NAMESPACE_CONTAINER-ID.log`, `crictl/ID`."""
    kind, _, rest = file.partition("/")
    parts = rest.partition("/")[0].split("_")
    if kind == "pods" and len(parts) > 1:
        return f"{parts[0]}/{parts[1]}"
    return f"{parts[1]}/{parts[0]}" if kind == "containers" and len(parts) > 1 else rest
