"""DNS servers that lie, one per port, in the network namespace that this is started in; each says its kind by its port.

Prints `ready` when all of them listen, and ends when its standard input does.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rrset

UDP = (
    "other port",
    "other address",
    "echo",
    "loop",
    "forward pointer",
    "64 kB",
    "many ids",
    "no question",
    "cut short",
)
TCP = ("loop", "64 kB", "size and nothing", "size 0", "two messages", "echo")
UDP_PORTS = dict(zip(UDP, range(6201, 6220), strict=False))
TCP_PORTS = dict(zip(TCP, range(6301, 6320), strict=False))
#: The node has this address besides its own.
OTHER = "10.9.0.3"


def good(question: bytes) -> bytes:
    """What an honest server would say."""
    query = dns.message.from_wire(question)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "6.6.6.6"))
    return response.to_wire()


def loop(question: bytes) -> bytes:
    """A name that is compressed to itself, in the place of the question's."""
    return (
        question[:2]
        + b"\x81\x80\0\1\0\1\0\0\0\0"
        + b"\xc0\x0c"
        + b"\0\1\0\1"
        + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\6\6\6\6"
    )


def forward(question: bytes) -> bytes:
    """The right question, and an answer whose name is behind the end."""
    head = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:]
    return head + b"\xff\xff\0\1\0\1\0\0\0\x3c\0\4\6\6\6\6"


def large(question: bytes, size: int) -> bytes:
    """A head that promises 65,535 answers, and zeros."""
    head = question[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0" + question[12:]
    return head + bytes(size - len(head))


def many(question: bytes) -> list[bytes]:
    """As who cannot see the question would guess."""
    answer = good(question)
    own = int.from_bytes(question[:2], "big")
    return [(own ^ guess).to_bytes(2, "big") + answer[2:] for guess in range(1, 200)]


REPLIES: dict[str, Callable[[bytes], list[bytes]]] = {
    "echo": lambda q: [q],
    "loop": lambda q: [loop(q)],
    "forward pointer": lambda q: [forward(q)],
    "64 kB": lambda q: [large(q, 65_000)],
    "many ids": many,
    "no question": lambda q: [q[:2] + b"\x81\x80" + bytes(8)],
    "cut short": lambda q: [good(q)[:-7]],
    "other port": lambda q: [good(q)],
    "other address": lambda q: [good(q)],
}


def udp(kind: str, server: socket.socket, others: dict[str, socket.socket]) -> None:
    while True:
        question, client = server.recvfrom(4096)
        for reply in REPLIES[kind](question):
            others.get(kind, server).sendto(reply, client)


def tcp(talk: Callable[[bytes], bytes], server: socket.socket) -> None:
    while True:
        client, _ = server.accept()
        with client:
            size = int.from_bytes(client.recv(2, socket.MSG_WAITALL), "big")
            client.sendall(talk(client.recv(size, socket.MSG_WAITALL)))


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


TALKS: dict[str, Callable[[bytes], bytes]] = {
    "loop": lambda q: framed(loop(q)),
    "64 kB": lambda q: framed(large(q, 65_535)),
    "size and nothing": lambda q: b"\xff\xff",
    "size 0": lambda q: b"\0\0",
    "two messages": lambda q: framed(loop(q)) + framed(good(q)),
    "echo": framed,
}


def main() -> None:
    others = {
        "other port": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "other address": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    }
    others["other address"].bind((OTHER, UDP_PORTS["other address"]))
    for kind, port in UDP_PORTS.items():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("10.9.0.1", port))
        threading.Thread(target=udp, args=(kind, server, others), daemon=True).start()
    for kind, port in TCP_PORTS.items():
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("10.9.0.1", port))
        listener.listen(64)
        threading.Thread(target=tcp, args=(TALKS[kind], listener), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
