"""What the kernel's log says about lost packets, and how long ago."""

from __future__ import annotations

import re

from checks.case import Case

# Seconds since the kernel's last complaint within which it still counts as the present.
_RECENT_S = 300


def complaint(case: Case, about: str) -> tuple[float | None, str]:
    """How many seconds ago the kernel last said so, None if that is not the present any more; and its last words.

    Its log may not be readable: (None, "").

    + about: the word of `facts.conntrack.COMPLAINTS`
    """
    if case.unread(("kernel_log", "system")):
        return None, ""
    system = case.snapshot["system"]["value"]
    for line in case.snapshot["kernel_log"]["value"]:
        if line["about"] == about:
            stamp = re.match(r"\[ *(\d+(?:\.\d+)?)\]", line["last"])
            # The uptime was read some seconds before the log.
            ago = max(0.0, system["uptime_s"] - float(stamp[1])) if stamp and system else None
            return ago if ago is not None and ago <= _RECENT_S else None, f"{line['times']} times: {line['last']}"
    return None, ""
