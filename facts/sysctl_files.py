"""What the files of /etc/sysctl.d and its kin set when the node is booted."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TypedDict

from typing_extensions import override

from facts.reading import NodeFact


class Assignment(TypedDict):
    """One line: `name` with dots, as sysctl(8) writes it; `value` in the file's words."""

    name: str
    value: str
    file: str
    line: int


#: Lines of a node, at most.
MOST = 5000


class SysctlFiles(NodeFact[list[Assignment]]):
    """What systemd-sysctl sets at boot, in its order: a later line of the same name counts.

    Source: sysctl.d(5). Files go by their names, whatever their folder, and one of /etc hides those of its name in the
    others. /etc/sysctl.conf is among them where a link leads to it. A pattern (`net.ipv4.conf.*.rp_filter`) stays one.

    .. code:: python

        [{"name": "net.ipv4.ip_forward", "value": "0", "file": "/etc/sysctl.d/99-sysctl.conf", "line": 28}]
    """

    script = rf"""
seen=/
set --
for folder in /etc /run /usr/local/lib /usr/lib /lib; do
    for file in "$folder"/sysctl.d/*.conf; do
        name=${{file##*/}}
        case $seen in */"$name"/*) continue ;; esac
        seen=$seen$name/
        [ ! -f "$file" ] || set -- "$@" "$file"
    done
done
[ $# -gt 0 ] || exit 0
awk '
    FNR == 1 {{ print "file", FILENAME }}
    /^[ \t]*[^#; \t].*=/ {{
        if (++lines > {MOST}) {{ print "more than {MOST} lines" > "/dev/stderr"; exit 1 }}
        print FNR, substr($0, 1, 1000)
    }}' "$@"
"""

    @override
    def read(self, output: list[str]) -> list[Assignment]:
        found: list[Assignment] = []
        file = ""
        for line in filter(None, output):
            word, _, rest = line.partition(" ")
            if word == "file":
                file = rest
            else:
                name, _, value = rest.partition("=")
                found.append({"name": _dotted(name), "value": value.strip(), "file": file, "line": int(word)})
        return sorted(found, key=lambda each: PurePosixPath(each["file"]).name)


def _dotted(name: str) -> str:
    """The name with dots between its parts; a dash in front is no part of it, and the first separator tells which."""
    name = name.strip().removeprefix("-").strip().lstrip("/")
    separator = re.search(r"[./]", name)
    return name.translate(str.maketrans("./", "/.")) if separator and separator[0] == "/" else name
