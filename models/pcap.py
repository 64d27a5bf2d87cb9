"""What tcpdump(1) writes: the frames of a capture, read within bounds. Nothing here trusts a length that it is told.

Only the classic format: tcpdump never writes pcapng. Source: pcap-savefile(5), pcap-linktype(7).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

#: The most that a frame may claim to hold (MAXIMUM_SNAPLEN of libpcap).
MOST_BYTES = 262_144
_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
_HEADER = 24
_RECORD = 16


class Frame(NamedTuple):
    """One frame. `time` is the node's, in seconds since 1970; `link` the link-layer type; `data` may be cut off."""

    time: float
    link: int
    data: bytes


def frames(capture: bytes) -> Iterator[Frame]:
    """The frames of a capture, as far as they are whole: a capture that was stopped may end in the middle of one.

    Nothing for an empty capture. Raises ValueError for what is no capture.
    """
    if not capture:
        return
    if len(capture) < _HEADER or capture[:4] not in _MAGIC:
        raise ValueError(f"no pcap file: it begins with {capture[:4].hex() or 'nothing'}")
    order, fraction = _MAGIC[capture[:4]]
    # The upper bits of the link type tell about checksums.
    link = struct.unpack_from(f"{order}I", capture, 20)[0] & 0xFFFF
    at = _HEADER
    while at + _RECORD <= len(capture):
        seconds, part, length, _ = struct.unpack_from(f"{order}IIII", capture, at)
        at += _RECORD
        if length > MOST_BYTES:
            raise ValueError(f"a frame claims {length} bytes")
        if at + length > len(capture):
            return
        yield Frame(seconds + part * fraction, link, capture[at : at + length])
        at += length
