"""What conntrack lost between two reads: counters of a kernel 6.18, before and after pairs of packets that raced."""

from __future__ import annotations

from typing import Any, cast

import pytest

from facts.conntrack import Conntrack
from facts.snapshot import Snapshot
from models import conntrack, datagrams


def read(*cpus: str) -> Snapshot:
    value = Conntrack().read(["table 103 262144", *(f"tool {cpu}" for cpu in cpus)])
    return cast(Snapshot, {"conntrack": {"state": "value", "value": value, "detail": ""}})


IDLE = read(*(f"cpu={cpu} insert_failed=0 drop=0 early_drop=0 clash_resolve=0" for cpu in (0, 1)))
# 5000 pairs of equal SYN packets, from two processors at once.
RACED = read(
    "cpu=0 insert_failed=2509 drop=2509 early_drop=0 clash_resolve=0",
    "cpu=1 insert_failed=2025 drop=2025 early_drop=0 clash_resolve=0",
)
# 4000 pairs of UDP packets with a DNAT to two pods: the kernel settled the race.
SETTLED = read("cpu=0 insert_failed=0 drop=0 clash_resolve=9", "cpu=1 insert_failed=0 drop=0 clash_resolve=22")
FULL = read("cpu=0 insert_failed=2 drop=606 clash_resolve=0", "cpu=1 insert_failed=0 drop=0 clash_resolve=0")


@pytest.mark.parametrize(
    ("after", "drops", "clashes"), [(RACED, 0, 4534), (SETTLED, 0, 0), (FULL, 604, 2), (IDLE, 0, 0), (None, None, None)]
)
def test_a_lost_race_is_no_full_table(after: Snapshot | None, drops: int | None, clashes: int | None) -> None:
    assert conntrack.drops(IDLE, after) == drops
    assert conntrack.clashes(IDLE, after) == clashes


def test_an_old_kernel_does_not_count_the_drop() -> None:
    before, after = read("cpu=0 insert_failed=3 drop=9"), read("cpu=0 insert_failed=8 drop=9")
    assert (conntrack.drops(before, after), conntrack.clashes(before, after)) == (0, 5)


def test_wrong_checksums() -> None:
    def counted(bad: int) -> Any:
        return {"udp": {"state": "value", "value": {"received": 9, "bad_checksums": bad}, "detail": ""}}

    assert datagrams.bad_checksums(counted(3), counted(10)) == 7
    assert datagrams.bad_checksums(IDLE, counted(10)) is None
    assert datagrams.bad_checksums(counted(3), None) is None
