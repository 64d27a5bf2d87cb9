"""Carry questions with the node's python3.

This file is run there as it stands: `python3 -c`, its standard library, 3.6 or newer (hence the quoted
annotations). Arguments: how many tries may be in flight, the microseconds between two of them, then one row per
question (see `probes.carry`).

What `socket` and `selectors` import takes as long as Python itself takes to start, and an interpreter starts for each
source: the modules below them have all that is needed.
"""

import _socket
import posix
import select
import sys
import time

#: Seconds between two tries of one question.
SPACING = 0.01
LINE = 1000
#: pipe(7): what is not longer stays in one piece, whoever else writes.
PIECE = 4096


class Attempt:
    """One try: a non-blocking socket, connected, so that only its destination can answer it."""

    def __init__(self, row: "list[str]", number: int) -> None:
        self.probe, self.protocol, self.address, self.port = row[:4]
        self.number = number
        self.deadline = int(row[5]) / 1e6
        unique = int(row[6]) + number
        message = bytes([0x40 + unique // 200, 0x20 + unique % 200]) + bytes.fromhex(row[7])
        self.tcp = self.protocol == "tcp"
        self.message = len(message).to_bytes(2, "big") + message if self.tcp else message
        self.received = b""
        self.connected = False
        self.start = 0.0

    def open(self) -> None:
        family = _socket.AF_INET6 if ":" in self.address else _socket.AF_INET
        kind = _socket.SOCK_STREAM if self.tcp else _socket.SOCK_DGRAM
        self.start = time.monotonic()
        self.socket = _socket.socket(family, kind)
        self.socket.setblocking(False)
        try:
            self.socket.connect((self.address, int(self.port)))
        except BlockingIOError:
            return
        self.go()

    def go(self) -> None:
        """Connected: a question is shorter than any send buffer, so that one send takes it whole."""
        failed = self.socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if failed:
            raise OSError(failed, posix.strerror(failed))
        self.socket.send(self.message)
        self.connected = True

    def answer(self) -> "bytes | None":
        """The whole answer, without the length in front; None: more must come. EOFError: it never will."""
        more = self.socket.recv(65535)
        if not self.tcp:
            return more
        if not more:
            raise EOFError
        self.received += more
        body = self.received[2:]
        size = int.from_bytes(self.received[:2], "big")
        return body[:size] if len(self.received) > 1 and len(body) >= size else None

    def tell(self, state: str, data: bytes = b"") -> None:
        label = f"{self.probe} {self.number}"
        lines = [f"@dns try {label} {int((time.monotonic() - self.start) * 1e6)} {state}\n"]
        text = data.hex()
        lines += [f"@dns data {label} {text[at : at + LINE]}\n" for at in range(0, len(text), LINE)]
        together = "".join(lines)
        for piece in [together] if len(together) <= PIECE else lines:
            posix.write(1, piece.encode("ascii", "replace"))


def step(attempt: Attempt) -> bool:
    """Whether the try is over: its socket is ready for what it waits for."""
    try:
        if not attempt.connected:
            attempt.go()
            return False
        answer = attempt.answer()
        if answer is None:
            return False
        attempt.tell("answer", answer)
    except BlockingIOError:
        return False
    except EOFError:
        attempt.tell("closed")
    except ConnectionResetError as error:
        attempt.tell("closed " + str(error.strerror))
    except OSError as error:
        attempt.tell("error " + str(error.strerror))
    return True


def main(in_flight: int, pause: float, table: "list[str]") -> None:
    rows = [row.split(" ") for row in table]
    rounds = max(int(row[4]) for row in rows)
    tries = [(turn, row) for turn in range(rounds) for row in rows if turn < int(row[4])]
    waiting = [(max(turn * SPACING, number * pause), Attempt(row, turn)) for number, (turn, row) in enumerate(tries)]
    waiting.reverse()
    flying = {}  # type: dict[int, Attempt]
    poll = select.poll()

    def over(attempt: Attempt) -> None:
        number = attempt.socket.fileno()
        poll.unregister(number)
        attempt.socket.close()
        del flying[number]

    began = time.monotonic()
    # No deadline comes before it.
    quiet = float("inf")
    while waiting or flying:
        now = time.monotonic()
        while waiting and len(flying) < in_flight and began + waiting[-1][0] <= now:
            attempt = waiting.pop()[1]
            try:
                attempt.open()
            except OSError as error:
                attempt.tell("error " + str(error.strerror))
                continue
            poll.register(attempt.socket.fileno(), select.POLLIN if attempt.connected else select.POLLOUT)
            flying[attempt.socket.fileno()] = attempt
            quiet = min(quiet, attempt.start + attempt.deadline)
        until = quiet
        if waiting and len(flying) < in_flight:
            until = min(until, began + waiting[-1][0])
        wait = max(0.0, until - time.monotonic()) * 1000
        for number, _ in poll.poll(wait) if until < float("inf") else ():
            attempt = flying[number]
            was_connected = attempt.connected
            if step(attempt):
                over(attempt)
            elif attempt.connected and not was_connected:
                poll.modify(number, select.POLLIN)
        now = time.monotonic()
        if now < quiet:
            continue
        for attempt in [attempt for attempt in flying.values() if now >= attempt.start + attempt.deadline]:
            if not attempt.tcp:
                attempt.tell("timeout")
            elif attempt.connected:
                attempt.tell(f"timeout connected, {len(attempt.received)} bytes")
            else:
                attempt.tell("timeout no connection")
            over(attempt)
        quiet = min((attempt.start + attempt.deadline for attempt in flying.values()), default=float("inf"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) / 1e6, sys.argv[3:])
