"""What has changed on a node lately: packages and alternatives, and the clock that all of its history is told by.

Each is a section of its own: one that cannot be read hides no other. Times are the node's own clock's, as UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact

#: Days that are looked back, and lines of each kind at most: the newest ones.
DAYS = 14
MOST = 300

#: Sets `since`, in seconds since 1970, for a section's script.
SINCE = f"since=$(($(date +%s) - {DAYS} * 86400))\n"


class Clock(TypedDict):
    """`now`: seconds since 1970; `offset`: the node's time zone, "+0800"; `boot`: when its first process began, UTC."""

    now: float
    offset: str
    boot: str


class Package(TypedDict):
    """`action`: "install", "upgrade", "remove", "purge"; rpm(8) knows installs only. `before` is "" for none."""

    time: str
    action: str
    package: str
    before: str
    after: str
    source: str


class Switched(TypedDict):
    """An alternative: what its link leads to, and when that was set; or a line of update-alternatives' log."""

    time: str
    name: str
    text: str
    source: str


class NodeClock(NodeFact[Clock | None]):
    """The node's time, its zone and its start. Source: date(1), /proc/1/stat and /proc/stat (proc(5)).

    .. code:: python

        {"now": 1795318230.25, "offset": "+0800", "boot": "2026-11-20T06:00:00Z"}
    """

    script = r"""
echo "now $(date '+%s.%N %z')"
began=$(sed 's/^.*) //' /proc/1/stat | cut -d ' ' -f 20)
echo "boot $(($(awk '/^btime / { print $2 }' /proc/stat) + began / $(getconf CLK_TCK)))"
"""

    @staticmethod
    @override
    def nothing() -> Clock | None:
        return None

    @override
    def read(self, output: list[str]) -> Clock | None:
        said = dict(line.split(" ", 1) for line in output if line)
        now, offset = said["now"].split()
        return {"now": float(now), "offset": offset, "boot": utc(said["boot"])}


# dpkg and update-alternatives write local time; only the node knows its zone's rules. One date(1) reads all of them.
_TO_EPOCH = r"""
stamped() {
    lines=$(cat)
    [ -n "$lines" ] || return 0
    times=$(printf '%s\n' "$lines" | cut -c 1-19 | date -f - +%s) || return 1
    printf '%s\n' "$times" | sed 's/^/@/' | { cat; printf '%s\n' "$lines"; } | awk -v since="$since" '
        /^@/ { time[++n] = substr($0, 2); next }
        time[++m] >= since { print time[m] substr($0, 20) }'
}
oldest=$(date -d "@$since" '+%Y-%m-%d %H:%M:%S')
"""


class PackageLog(NodeFact[list[Package]]):
    """Packages that were installed, upgraded or removed. Source: /var/log/dpkg.log and its older ones, rpm(8).

    .. code:: python

        [{"time": "2026-11-22T02:11:09Z", "action": "upgrade", "package": "dnsmasq-base:amd64",
          "before": "2.89-1", "after": "2.90-4~deb12u1", "source": "/var/log/dpkg.log"}]
    """

    limit = 20
    script = (
        SINCE
        + _TO_EPOCH
        + rf"""
if [ -r /var/log/dpkg.log ] || [ -r /var/log/dpkg.log.1 ]; then
    for log in /var/log/dpkg.log.2.gz /var/log/dpkg.log.1 /var/log/dpkg.log; do
        [ -r "$log" ] || continue
        case $log in *.gz) gzip -dc "$log" ;; *) cat "$log" ;; esac
    done | awk -v oldest="$oldest" '
        $3 ~ /^(install|upgrade|remove|purge)$/ && ($1 " " $2) >= oldest' | tail -n {MOST} | stamped | sed 's/^/dpkg /'
elif command -v rpm >/dev/null; then
    rpm -qa --queryformat '%{{INSTALLTIME}} %{{NAME}} %{{VERSION}}-%{{RELEASE}}\n' |
        awk -v since="$since" '$1 >= since {{ print "rpm", $0 }}' | sort -n -k 2 | tail -n {MOST}
elif ! command -v dpkg >/dev/null; then
    echo "neither dpkg nor rpm" >&2
    exit 127
fi
"""
    )

    @override
    def read(self, output: list[str]) -> list[Package]:
        found: list[Package] = []
        for line in filter(None, output):
            kind, time, *rest = line.split()
            if kind == "rpm":
                action, package, before, after = "install", rest[0], "", rest[1]
            else:
                action, package, before, after = (*rest, "", "")[:4]
            none = {"<none>": ""}
            found.append(
                {
                    "time": utc(time),
                    "action": action,
                    "package": package,
                    "before": none.get(before, before),
                    "after": none.get(after, after),
                    "source": "rpm -qa" if kind == "rpm" else "/var/log/dpkg.log",
                }
            )
        return found


class AlternativesLog(NodeFact[list[Switched]]):
    """When the alternatives of packet filters were set. Source: the links in /etc/alternatives, alternatives.log.

    .. code:: python

        [{"time": "2026-11-22T02:12:40Z", "name": "iptables", "text": "leads to /usr/sbin/iptables-legacy",
          "source": "/etc/alternatives/iptables"}]
    """

    script = (
        SINCE
        + _TO_EPOCH
        + rf"""
for name in iptables ip6tables arptables ebtables; do
    link=/etc/alternatives/$name
    [ -L "$link" ] || continue
    time=$(stat -c %Z "$link") && [ "$time" -ge "$since" ] && echo "link $time $name $(readlink "$link")"
done
for log in /var/log/alternatives.log.1 /var/log/alternatives.log; do
    [ ! -r "$log" ] || sed -n -E \
        's/^update-alternatives ([0-9: -]+): (run with .*tables.*|link group [a-z0-9]*tables .*)$/\1 \2/p' "$log"
done | tail -n {MOST} | stamped | sed 's/^/log /'
"""
    )

    @override
    def read(self, output: list[str]) -> list[Switched]:
        found: list[Switched] = []
        for line in filter(None, output):
            kind, time, rest = line.split(" ", 2)
            if kind == "link":
                name, _, target = rest.partition(" ")
                text, source = f"leads to {target}", f"/etc/alternatives/{name}"
            else:
                words = rest.split()
                name = next((word for word in words if word.endswith("tables") and "/" not in word), "")
                text, source = rest, "/var/log/alternatives.log"
            found.append({"time": utc(time), "name": name, "text": text, "source": source})
        return found


def utc(seconds: str | float) -> str:
    """Seconds since 1970 as UTC, ISO 8601. Raises ValueError for what no clock shows."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError) as error:
        raise ValueError(f"no time: {seconds}") from error
