"""The node's disk is full, out of inodes or read-only, from the beginning or from a moment of the change on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.faults.case import Fault, Stage
from bench.faults.moments import Condition, Moment, armed, begun, restarted, when, written
from bench.faults.scenarios import BACKEND, EXCEPT_LO, GUARDS, UNDO

#: Where the repair writes: what it keeps, what it changes, and what undoes it at the next boot.
_KEPT, _DNSMASQ, _UNITS = "/var/lib/dnsmend", "/etc/dnsmasq.d", "/etc/systemd/system"
_ALL = (_KEPT, _DNSMASQ, _UNITS)
# A small file system over a folder, with what is in it. $1 the folder, $2 the options of tmpfs(5), $3 a copy of it.
# dnsmasq reads no file whose name begins with a dot.
_COVER = r"""
set -eu
[ -e "$1" ] || { mkdir -m 700 "$1"; : > "$3.made"; }
mkdir -p "$3"
cp -a "$1/." "$3/"
mount -t tmpfs -o "$2,mode=$(stat -c %a "$1")" full "$1"
cp -a "$3/." "$1/"
"""
# In each of the folders.
_FILL = {
    "bytes": 'for folder; do dd if=/dev/zero of="$folder/.ballast" bs=512 2>/dev/null || true; done',
    "inodes": r"""
for folder; do
    mkdir -p "$folder/.ballast"
    n=0
    while true 2>/dev/null > "$folder/.ballast/$n"; do n=$((n + 1)); done
done
""",
}
# What was written meanwhile stays.
_UNCOVER = r"""
set -eu
rm -rf "$3" "$1/.ballast"
mkdir "$3"
cp -a "$1/." "$3/"
umount "$1"
find "$1" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
cp -a "$3/." "$1/"
rm -rf "$3"
if [ -e "$3.made" ]; then rm -f "$3.made"; rmdir --ignore-fail-on-non-empty "$1"; fi
"""


def _cover(stage: Stage, script: str, folder: str, options: str = "") -> None:
    stage.node.run(["sh", "-c", script, "sh", folder, options, "/run/covered-" + folder.strip("/").replace("/", "-")])


@contextmanager
def full(stage: Stage, folders: Sequence[str], what: str, moment: Moment | None) -> Iterator[None]:
    """No room in these folders.

    + what: of which there is none: "bytes" or "inodes"
    + moment: from when on; None for the beginning
    """

    def fill() -> None:
        stage.node.run(["sh", "-c", _FILL[what], "sh", *folders])

    with ExitStack() as covered:
        for folder in folders:
            _cover(stage, _COVER, folder, "size=1m" if what == "bytes" else "size=4m,nr_inodes=200")
            covered.callback(_cover, stage, _UNCOVER, folder)
        covered.enter_context(when(stage.node, moment, fill))
        yield


# A second mount of each folder over itself, that is read-only: what is open stays writable. It is made elsewhere first:
# one through which somebody writes cannot become read-only.
_READ_ONLY = r"""
set -eu
mkdir -p /run/covered-ro
for folder; do
    [ -e "$folder" ] || mkdir -m 700 "$folder"
    mount --bind "$folder" /run/covered-ro
    mount --make-private /run/covered-ro
    mount -o remount,bind,ro /run/covered-ro
    mount --bind /run/covered-ro "$folder"
    umount /run/covered-ro
done
rmdir /run/covered-ro
"""
_WRITABLE = 'for folder; do ! mountpoint -q "$folder" || umount "$folder"; done'


@contextmanager
def read_only(stage: Stage, folders: Sequence[str], moment: Moment | None) -> Iterator[None]:
    """Nothing can be written below these folders, from a moment on; None for the beginning."""

    def remount() -> None:
        stage.node.run(["sh", "-c", _READ_ONLY, "sh", *folders])

    try:
        with when(stage.node, moment, remount):
            yield
    finally:
        stage.node.run(["sh", "-c", _WRITABLE, "sh", *folders])


_fault = partial(Fault, codes=(1,), undo_after=20)


def faults() -> list[Fault]:
    """A repair, its way back and guards on a disk that takes nothing."""
    found: list[Fault] = []
    for folders, where in (
        ((_KEPT,), "/var"),
        ((_DNSMASQ,), "/etc/dnsmasq.d"),
        ((_UNITS,), "/etc/systemd"),
        (_ALL, "/var and /etc"),
    ):
        found.append(_fault(EXCEPT_LO, f"disk full: {where}", "from the beginning", _full(folders, "bytes", None)))
    found.append(_fault(EXCEPT_LO, "no inode left: /var and /etc", "from the beginning", _full(_ALL, "inodes", None)))
    for moment, point in (
        (begun, "before the change"),
        (armed, "as the change begins"),
        (written, "in the middle of the change"),
        (restarted, "before the proof"),
    ):
        found.append(_fault(EXCEPT_LO, "disk full: /var and /etc", point, _full(_ALL, "bytes", moment), codes=(0, 1)))
        found.append(
            _fault(EXCEPT_LO, "no inode left: /var and /etc", point, _full(_ALL, "inodes", moment), codes=(0, 1))
        )
        found.append(
            _fault(
                EXCEPT_LO, "/etc and /var become read-only", point, _read_only(("/etc", _KEPT), moment), codes=(0, 1)
            )
        )
    found += [
        _fault(EXCEPT_LO, "/etc is read-only", "from the beginning", _read_only(("/etc",), None)),
        _fault(EXCEPT_LO, "/tmp is full", "from the beginning", _full(("/tmp",), "bytes", None), codes=(0,)),
        _fault(
            BACKEND, "disk full: /var and /etc/systemd", "from the beginning", _full((_KEPT, _UNITS), "bytes", None)
        ),
        _fault(BACKEND, "/etc is read-only", "from the beginning", _read_only(("/etc",), None)),
        _fault(
            UNDO, "disk full: /etc/dnsmasq.d", "from the beginning", _full((_DNSMASQ,), "bytes", None), codes=(0, 1)
        ),
        _fault(UNDO, "/etc is read-only", "from the beginning", _read_only(("/etc",), None)),
        _fault(GUARDS, "/etc is read-only", "from the beginning", _read_only(("/etc",), None)),
        _fault(GUARDS, "disk full: /etc/systemd", "from the beginning", _full((_UNITS,), "bytes", None)),
    ]
    return found


def _full(folders: Sequence[str], what: str, moment: Moment | None) -> Condition:
    return lambda stage: full(stage, folders, what, moment)


def _read_only(folders: Sequence[str], moment: Moment | None) -> Condition:
    return lambda stage: read_only(stage, folders, moment)
