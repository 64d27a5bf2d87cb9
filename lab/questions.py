"""DNS questions that the lab itself asks, with dig(1), to see whether it works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lab import host

Kind = Literal["answered", "timeout", "closed", "refused"]

# What dig 9.18 says when a try ends without a message.
_ERRORS: tuple[tuple[str, Kind], ...] = (
    ("timed out", "timeout"),
    ("connection refused", "refused"),
    ("end of file", "closed"),
    ("connection reset", "closed"),
)


@dataclass(frozen=True)
class Answer:
    """How one try ended; `status` and `addresses` come from the message if there was one."""

    kind: Kind
    status: str = ""
    addresses: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """True for a NOERROR answer that holds an address."""
        return self.status == "NOERROR" and bool(self.addresses)

    def __str__(self) -> str:
        return self.status if self.kind == "answered" else self.kind


def ask_from(entry: Sequence[str], server: str, name: str, *, tcp: bool, timeout: int) -> Answer:
    """Ask `server` for the A records of `name`, once, for `timeout` seconds. `entry` leads to where dig runs."""
    options = ["+tries=1", f"+time={timeout}", "+tcp" if tcp else "+notcp"]
    done = host.run([*entry, "dig", *options, f"@{server}", name, "A"], check=False, timeout=timeout + 20)
    status = re.search(r"status: (\w+)", done.stdout)
    if status:
        addresses = re.findall(r"^[^;\s]\S*\s+\d+\s+IN\s+A[ \t]+(\S+)", done.stdout, re.MULTILINE)
        return Answer("answered", status[1], tuple(addresses))
    for words, kind in _ERRORS:
        if words in done.stdout:
            return Answer(kind)
    raise host.LabError(f"dig @{server} {name}: {(done.stderr or done.stdout).strip()}")
