"""The bytes of a question, and the id that each try of it carries.

The carriers put the id in front of the rest on the node, so that a question is sent there once and not
once per try. They and the reader work it out in the same way.
"""

from __future__ import annotations

from functools import lru_cache

import dns.message
import dns.rdatatype

from probes.probe import Probe

IDS = (0x100 - 0x40) * 200
"""How many tries one exec can tell apart."""


def query(probe: Probe, number: int) -> dns.message.QueryMessage:
    """The question of the exec's try `number`: recursion desired, no EDNS."""
    return dns.message.make_query(
        probe["name"], probe["rdtype"], probe["rdclass"], id=identifier(number), use_edns=False
    )


def identifier(number: int) -> int:
    """The id of the exec's try `number`. No byte of it is 0x0a, which bash cannot send in one write."""
    if not 0 <= number < IDS:
        raise ValueError(f"{IDS} tries is what one exec can tell apart")
    return (0x40 + number // 200) << 8 | 0x20 + number % 200


def without_id(probe: Probe) -> str:
    """The question's bytes after its id, in hex."""
    return _question(probe["name"], probe["rdtype"], probe["rdclass"])


@lru_cache(maxsize=1024)
def _question(name: str, rdtype: str, rdclass: str) -> str:
    """Made once: a run asks the same few questions along every hop of every node."""
    return dns.message.make_query(name, rdtype, rdclass, id=0, use_edns=False).to_wire()[2:].hex()
