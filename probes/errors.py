"""From an error's text to what it says about a try: strerror(3) of glibc and musl, dig's and ping's own words."""

from __future__ import annotations

from probes.probe import Outcome

_MEANINGS: tuple[tuple[str, Outcome], ...] = (
    ("connection refused", "refused"),
    ("connection reset", "closed"),
    ("broken pipe", "closed"),
    ("end of file", "closed"),
    ("network is unreachable", "unreachable"),
    ("network unreachable", "unreachable"),
    ("no route to host", "unreachable"),
    ("host is unreachable", "unreachable"),
    ("host unreachable", "unreachable"),
    ("protocol not available", "unreachable"),
    ("timed out", "timeout"),
)


def outcome_of(text: str, protocol: str) -> Outcome:
    """What the error means for the try.

    What is not known to come from the network (EPERM, EINVAL, no socket, no file) was not sent.
    """
    lowered = text.lower()
    for words, outcome in _MEANINGS:
        if words in lowered:
            return outcome if outcome != "closed" or protocol == "tcp" else "not sent"
    return "not sent"
