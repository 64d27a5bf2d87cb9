"""Which iptables a kube-proxy in a container brings with it."""

from __future__ import annotations

import re
from collections import Counter

from typing_extensions import override

from facts.reading import NodeFact

#: A version of iptables among the other numbers in its program.
_VERSION = re.compile(r"1\.[4-8]\.\d{1,2}")


class ImageIptables(NodeFact[str]):
    """The version of iptables in kube-proxy's image ("1.8.7"), read from the program's file: nothing of it is run.

    "empty" where kube-proxy has the node's own files, or does not run. Source: /proc/PID/root, xtables-nft-multi(8).

    .. code:: python

        "1.8.7"
    """

    # An absolute link in the image would lead to the node's files: only a file itself is read, in a real folder.
    script = r"""
[ "${euid:-$(id -u)}" = 0 ] || { echo "only root sees another process's files" >&2; exit 77; }
own=
for comm in /proc/[0-9]*/comm; do
    read -r name <"$comm" || continue
    [ "$name" = kube-proxy ] || continue
    process=${comm%/comm}
    own=${own:-$(stat -L -c %d:%i /)}
    [ "$(stat -L -c %d:%i "$process/root/")" != "$own" ] || continue
    for folder in usr/sbin sbin; do
        [ ! -L "$process/root/$folder" ] || continue
        for program in xtables-nft-multi xtables-legacy-multi xtables-multi; do
            file=$process/root/$folder/$program
            [ -f "$file" ] && [ ! -L "$file" ] || continue
            head -c 2000000 "$file" | tr -c '0-9.' '\n' | grep '^1\.[4-8]\.[0-9]\{1,2\}$' | head -n 50
            exit 0
        done
    done
done 2>/dev/null
"""

    @staticmethod
    @override
    def nothing() -> str:
        return ""

    @override
    def read(self, output: list[str]) -> str:
        found = Counter(line for line in output if _VERSION.fullmatch(line))
        return found.most_common(1)[0][0] if found else ""
