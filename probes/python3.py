"""Carry questions with the node's python3.

This file is run there as it stands: `python3 -c`, its standard library, 3.6 or newer (hence the quoted
annotations). Arguments: how many tries may be in flight, then one row per question (see `probes.carry`).
"""

import os
import selectors
import socket
import sys
import time

SPACING = 0.01
LINE = 1000


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
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        kind = socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM
        self.start = time.monotonic()
        self.socket = socket.socket(family, kind)
        self.socket.setblocking(False)
        try:
            self.socket.connect((self.address, int(self.port)))
        except BlockingIOError:
            return
        self.go()

    def go(self) -> None:
        """Connected: a question is shorter than any send buffer, so that one send takes it whole."""
        failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
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
        print(f"@dns try {label} {int((time.monotonic() - self.start) * 1e6)} {state}", flush=True)
        text = data.hex()
        for at in range(0, len(text), LINE):
            print(f"@dns data {label} {text[at : at + LINE]}", flush=True)


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


def main(in_flight: int, table: "list[str]") -> None:
    rows = [row.split(" ") for row in table]
    rounds = max(int(row[4]) for row in rows)
    waiting = [(turn, Attempt(row, turn)) for turn in range(rounds) for row in rows if turn < int(row[4])]
    waiting.reverse()
    flying = set()  # type: set[Attempt]
    selector = selectors.DefaultSelector()
    began = time.monotonic()
    while waiting or flying:
        now = time.monotonic()
        while waiting and len(flying) < in_flight and began + waiting[-1][0] * SPACING <= now:
            attempt = waiting.pop()[1]
            try:
                attempt.open()
            except OSError as error:
                attempt.tell("error " + str(error.strerror))
                continue
            events = selectors.EVENT_READ if attempt.connected else selectors.EVENT_WRITE
            selector.register(attempt.socket, events, attempt)
            flying.add(attempt)
        times = [attempt.start + attempt.deadline for attempt in flying]
        if waiting and len(flying) < in_flight:
            times.append(began + waiting[-1][0] * SPACING)
        for key, _ in selector.select(max(0.0, min(times) - time.monotonic())) if times else ():
            attempt = key.data
            if step(attempt):
                selector.unregister(attempt.socket)
                attempt.socket.close()
                flying.discard(attempt)
            elif attempt.connected and key.events == selectors.EVENT_WRITE:
                selector.modify(attempt.socket, selectors.EVENT_READ, attempt)
        now = time.monotonic()
        for attempt in [attempt for attempt in flying if now >= attempt.start + attempt.deadline]:
            if not attempt.tcp:
                attempt.tell("timeout")
            elif attempt.connected:
                attempt.tell(f"timeout connected, {len(attempt.received)} bytes")
            else:
                attempt.tell("timeout no connection")
            selector.unregister(attempt.socket)
            attempt.socket.close()
            flying.discard(attempt)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
