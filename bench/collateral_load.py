"""The load beside an operation, and the other end of its flows: run inside a namespace of the lab as it stands.

    ask SERVER UDP-RATE TCP-RATE  questions a second, each from a port of its own: version.bind, which needs no upstream
    flow ADDRESS PORT RATE        one TCP connection and one UDP socket, a message each so often, which come back
    echo PORT                     sends back what comes

It ends when its standard input does, or after MOST seconds, and prints one JSON object: for each stream what was sent
when (seconds of the monotonic clock, which all namespaces of a machine share), and after how many milliseconds it came
back, null for what did not.
"""

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time

MOST = 120
#: Seconds after which a question or a datagram is lost.
DEADLINE = 2.0
#: version.bind TXT CH, recursion desired, behind its id.
QUESTION = bytes.fromhex("010000010000000000000776657273696f6e0462696e640000100003")


class Exchange:
    """One question, and whether its answer came."""

    def __init__(self, server: str, tcp: bool, number: int) -> None:
        self.tcp, self.sent, self.identity = tcp, time.monotonic(), struct.pack("!H", number % 65536)
        self.took = None  # type: float | None
        self.received = b""
        self.asked = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.connect((server, 53))
        except BlockingIOError:
            return
        self.ask()

    def ask(self) -> None:
        message = self.identity + QUESTION
        self.socket.send(struct.pack("!H", len(message)) + message if self.tcp else message)
        self.asked = True

    def is_over(self) -> bool:
        """Whether it has ended, now that its socket is ready."""
        try:
            if not self.asked:
                self.ask()
                return False
            self.received += self.socket.recv(4096)
        except OSError:
            return True
        answer = self.received[2:] if self.tcp else self.received
        if len(answer) < 12:
            return not self.tcp
        if answer[:2] == self.identity and answer[2] & 0x80 and answer[3] & 15 == 0:
            self.took = time.monotonic() - self.sent
        return True


def ask(server: str, udp: float, tcp: float) -> "dict[str, list[list[float | None]]]":
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    began = time.monotonic()
    turns = {False: 1 / udp, True: 1 / tcp}
    following = dict.fromkeys(turns, began)
    open_ones = {}  # type: dict[Exchange, None]
    done = {False: [], True: []}  # type: dict[bool, list[list[float | None]]]
    number, ending = 0, 0.0

    def close(exchange: Exchange) -> None:
        if exchange.asked or exchange.tcp:
            selector.unregister(exchange.socket)
        exchange.socket.close()
        open_ones.pop(exchange, None)
        took = None if exchange.took is None else round(exchange.took * 1000, 2)
        done[exchange.tcp].append([exchange.sent, took])

    while not ending or open_ones:
        now = time.monotonic()
        if now - began > MOST and not ending:
            ending = now
        for kind, pause in turns.items():
            while not ending and following[kind] <= now:
                following[kind] += pause
                number += 1
                try:
                    exchange = Exchange(server, kind, number)
                except OSError:
                    done[kind].append([now, None])
                    continue
                events = selectors.EVENT_READ if exchange.asked else selectors.EVENT_WRITE
                selector.register(exchange.socket, events, exchange)
                open_ones[exchange] = None
        soon = min(following.values()) if not ending else now + 0.05
        for key, _ in selector.select(max(0.0, min(soon - time.monotonic(), 0.05))):
            if key.data is None:
                selector.unregister(sys.stdin)
                ending = time.monotonic()
            elif key.data.is_over():
                close(key.data)
            elif key.events == selectors.EVENT_WRITE:
                selector.modify(key.data.socket, selectors.EVENT_READ, key.data)
        for exchange in [each for each in open_ones if time.monotonic() - each.sent > DEADLINE]:
            close(exchange)
    return {"udp": sorted(done[False]), "tcp": sorted(done[True])}


def flow(address: str, port: int, rate: float) -> "dict[str, list[list[float | None]]]":
    stream = socket.create_connection((address, port), timeout=5)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect((address, port))
    for each in (stream, datagrams):
        each.setblocking(False)
    sent = {"tcp": {}, "udp": {}}  # type: dict[str, dict[int, float]]
    back = {"tcp": {}, "udp": {}}  # type: dict[str, dict[int, float]]
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(stream, selectors.EVENT_READ, "tcp")
    selector.register(datagrams, selectors.EVENT_READ, "udp")
    began = time.monotonic()
    number, ending, received = 0, 0.0, b""
    while not ending or time.monotonic() - ending < DEADLINE:
        now = time.monotonic()
        if now - began > MOST and not ending:
            ending = now
        while not ending and began + number / rate <= now:
            number += 1
            for kind, one in (("tcp", stream), ("udp", datagrams)):
                sent[kind][number] = time.monotonic()
                with contextlib.suppress(OSError):
                    one.send(struct.pack("!Q", number))
        for key, _ in selector.select(0.005):
            if key.data is None:
                selector.unregister(sys.stdin)
                ending = time.monotonic()
                continue
            try:
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
            except OSError:
                continue
            if key.data == "udp":
                back["udp"].setdefault(struct.unpack("!Q", data)[0], time.monotonic())
                continue
            if not data:
                selector.unregister(stream)
                continue
            received += data
            while len(received) >= 8:
                back["tcp"].setdefault(struct.unpack("!Q", received[:8])[0], time.monotonic())
                received = received[8:]

    def took(kind: str, number: int) -> "float | None":
        if number not in back[kind]:
            return None
        return round((back[kind][number] - sent[kind][number]) * 1000, 2)

    return {kind: [[when, took(kind, number)] for number, when in every.items()] for kind, every in sent.items()}


def echo(port: int) -> None:
    listener = socket.create_server(("", port))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", port))
    selector = selectors.DefaultSelector()
    for each in (sys.stdin, listener, datagrams):
        selector.register(each, selectors.EVENT_READ)
    print("ready", flush=True)
    began = time.monotonic()
    while time.monotonic() - began < 2 * MOST:
        for key, _ in selector.select(1):
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ, "stream")
            elif key.fileobj is datagrams:
                data, sender = datagrams.recvfrom(65536)
                datagrams.sendto(data, sender)
            else:
                connection = key.fileobj
                data = connection.recv(65536)  # type: ignore[union-attr]
                if not data:
                    selector.unregister(connection)
                else:
                    connection.sendall(data)  # type: ignore[union-attr]


def main(words: "list[str]") -> None:
    if words[0] == "echo":
        echo(int(words[1]))
        return
    if words[0] == "ask":
        found = ask(words[1], float(words[2]), float(words[3]))
    else:
        found = flow(words[1], int(words[2]), float(words[3]))
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
