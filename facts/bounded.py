"""What a node says is read within bounds, whatever runs there: neither its length nor its bytes harm the controller.

The scripts bound themselves (`facts.reading`), and an honest node keeps to that. pyinfra reads to the end all that
comes over a connection, decodes it strictly and prints it where a command fails: a node that is broken or hostile could
fill the memory, end the reader with a byte that is no UTF-8, or write to the terminal. This takes the reader's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Queue
from typing import Any

from pyinfra.api.output import echo
from pyinfra.connectors import util
from pyinfra.connectors.util import OutputLine

#: One command's output on one stream: a save of 64 MB in base64, or the JSON of some thousand Nodes, is less.
BYTES = 100_000_000
LINES = 3_000_000
#: Seconds in which a command ends after it has closed its output: a node may never say that it has.
ENDING = 60
_CHUNK = 65_536
#: Control characters but the tab and the line's end, those of C1 too: a terminal would obey them.
_HIDDEN = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "?")


def install() -> None:
    """From now on pyinfra reads every command's output within these bounds."""
    util.read_buffer = read_buffer


def read_buffer(
    name: str,
    io: Any,
    output_queue: Queue[OutputLine],
    print_output: bool = False,
    print_func: Callable[[str], str] | None = None,
) -> None:
    """As `pyinfra.connectors.util.read_buffer`, but bounded: a command that says more is ended, and nothing of it kept.

    Bytes that are no UTF-8 become U+FFFD, control characters "?".
    """
    channel = getattr(io, "channel", None)
    try:
        for lines in _lines(io):
            # Greenlets share one thread, and nobody waits for a line: pyinfra takes all of them at the end.
            output_queue.queue.extend(OutputLine(name, line) for line in lines)
            for line in lines if print_output else ():
                echo(print_func(line) if print_func else line, err=True)
    except _TooMuch:
        # Ended by SIGPIPE, or without anybody to hear it. pyinfra prints what a failed command has said.
        (channel or io).close()
        output_queue.queue.clear()
        output_queue.put(OutputLine("stderr", f"the output was cut off: more than {BYTES} bytes or {LINES} lines"))
    if name == "stdout" and channel is not None and not channel.status_event.wait(ENDING):
        channel.close()


class _TooMuch(Exception):
    """More bytes or lines than are taken."""


def _lines(io: Any) -> Iterator[list[str]]:
    """The lines of each chunk together: one by one, they would be a sixth of a large fleet's cost."""
    left, lines = BYTES, LINES
    begun: list[bytes] = []
    for chunk in _chunks(io):
        left -= len(chunk)
        lines -= chunk.count(b"\n")
        if left < 0 or lines < 0:
            raise _TooMuch
        whole, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield _clean(b"".join([*begun, whole]))
            begun = []
        if rest:
            begun.append(rest)
    if begun:
        yield _clean(b"".join(begun))


def _chunks(io: Any) -> Iterable[bytes]:
    """The bytes as they come: of paramiko's channel, or of a local process's pipe."""
    channel = getattr(io, "channel", None)
    if channel is None:
        return iter(lambda: io.read1(_CHUNK), b"")
    receive = channel.recv_stderr if type(io).__name__ == "ChannelStderrFile" else channel.recv
    return iter(lambda: receive(_CHUNK), b"")


def _clean(lines: bytes) -> list[str]:
    text = lines.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\r")
    return [_unasked(line) for line in text.translate(_HIDDEN).split("\n")]


def _unasked(line: str) -> str:
    """pyinfra would ask on the terminal for a password at these words, and send it where every user may read it."""
    return f"{line}: NOPASSWD is needed" if line.strip() in util.SUDO_PASSWORD_REQUIRED_LINES else line
