"""The kernel settings that cluster DNS needs, and which of them a node lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from facts.snapshot import Snapshot
from facts.sysctl_files import Assignment

#: Below net.ipv4.vs; what kube-proxy sets at its start (kubernetes pkg/proxy/ipvs/proxier.go).
IPVS = {"conntrack": "1", "expire_nodest_conn": "1", "expire_quiescent_template": "1"}

CONNTRACK_MAXIMUM = "net.netfilter.nf_conntrack_max"


def same(one: str, other: str) -> bool:
    """Whether two values are the same to the kernel, which has tabs between the words of one."""
    return one.split() == other.split()


def overruled(files: Sequence[Assignment], own: str, wanted: Mapping[str, str]) -> list[Assignment]:
    """The lines that set something else at boot than a file of this name would: of each setting the last one.

    More room for tracked connections is nothing else. A pattern is none of them: what a file sets by its full name, no
    pattern does (sysctl.d(5)).
    """
    later = {each["name"]: each for each in files if PurePosixPath(each["file"]).name > PurePosixPath(own).name}
    return [later[name] for name, value in wanted.items() if name in later and not _does(later[name], value)]


def _does(line: Assignment, wanted: str) -> bool:
    if line["name"] == CONNTRACK_MAXIMUM and line["value"].isdecimal() and wanted.isdecimal():
        return int(line["value"]) >= int(wanted)
    return same(line["value"], wanted)


def ipvs(snapshot: Snapshot) -> dict[str, str]:
    """The settings of IPVS that are not as kube-proxy wants them, and what they should be: {} where all are."""
    table = snapshot["ipvs"]["value"]
    there = table["sysctls"] if table else {}
    return {f"net.ipv4.vs.{name}": value for name, value in IPVS.items() if there.get(name, value) != value}


def conntrack(snapshot: Snapshot, maximum: int | None) -> dict[str, str]:
    """A larger maximum of tracked connections; {} where the node has as much, or where none is wanted."""
    table = snapshot["conntrack"]["value"]
    if maximum is None or table is None or table["maximum"] >= maximum:
        return {}
    return {CONNTRACK_MAXIMUM: str(maximum)}
