"""What `ip -j` says: asked for within bounds on the node, and taken apart although its end may be cut off.

Source: ip(8), iproute2 4.14 and newer. Older ones do not know -j and make the reading "failed".
"""

from __future__ import annotations

import json
from typing import Any

#: Defines the shell function `show BYTES COMMAND...` for a command that runs `ip -j`. It drops fields that no fact
#: reads: `ip -d` says about 900 bytes for each interface, and a node has one per pod. A short answer goes as
# it is: the process would cost the node more than the bytes. A cut is said on standard error.
SHOW = r"""
condense() {
    sed -E -e 's/,"info_(slave_)?data":\{[^{}]*\}//g' \
        -e 's/,"[a-z0-9_]*(_queues|_size|_segs|_mtu|_life_time|_netnsid)":-?[0-9]+//g' \
        -e 's/,"(promiscuity|allmulti|txqlen|altnames)":-?[0-9]+//g' \
        -e 's/,"(qdisc|group|broadcast|address|inet6_addr_gen_mode|permaddr|parentbus|parentdev)":"[^"]*"//g'
}
show() {
    most=$1
    shift
    answer=$("$@") || exit $?
    [ "${#answer}" -lt 4000 ] || answer=$(printf '%s' "$answer" | condense)
    if [ "${#answer}" -gt "$most" ]; then
        echo "truncated: $most of ${#answer} bytes of $*" >&2
        answer=$(printf '%s' "$answer" | head -c "$most")
    fi
    printf '%s\n' "$answer"
}
"""


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a JSON array, as far as they are complete: `ip` leaves out what it filtered as `{}`.

    Raises ValueError when the text is no array.
    """
    if not text.strip():
        return []
    if not text.startswith("["):
        raise ValueError(f"no JSON array: {text[:60]!r}")
    decoder = json.JSONDecoder()
    found: list[dict[str, Any]] = []
    at = 1
    while True:
        while at < len(text) and text[at] in " ,":
            at += 1
        if not text.startswith("{", at):
            return found
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return found
        if value:
            found.append(value)
