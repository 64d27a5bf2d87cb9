"""DNS servers that misbehave on purpose, one per port, in the network namespace that this is started in.

Prints `ready` when all of them listen, and ends when its standard input does.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from itertools import count

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

HALF, WRONG_ID, OTHER_QUESTION, GARBAGE, EMPTY, TRUNCATED = range(6001, 6007)
CLOSES, RESETS, MUTE, SLOW, LARGE, STUTTERS = range(6101, 6107)

EVERY_BYTE = "".join(f"\\{byte:03}" for byte in range(256))


def answer(question: bytes, **changes: int) -> bytes:
    query = dns.message.from_wire(question)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "1.2.3.4"))
    response.id ^= changes.get("id", 0)
    response.flags |= changes.get("flags", 0)
    return response.to_wire()


def serve_udp(port: int, replies: Callable[[int, bytes], bytes | None]) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("", port))

    def loop() -> None:
        for number in count():
            question, client = server.recvfrom(4096)
            reply = replies(number, question)
            if reply is not None:
                server.sendto(reply, client)

    threading.Thread(target=loop, daemon=True).start()


def serve_tcp(port: int, talk: Callable[[socket.socket], None]) -> None:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("", port))
    server.listen(128)

    def one(client: socket.socket) -> None:
        with client:
            talk(client)

    def loop() -> None:
        while True:
            client, _ = server.accept()
            threading.Thread(target=one, args=(client,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def ask(client: socket.socket) -> bytes:
    size = int.from_bytes(client.recv(2, socket.MSG_WAITALL), "big")
    return client.recv(size, socket.MSG_WAITALL)


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def reset(client: socket.socket) -> None:
    ask(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def slowly(client: socket.socket) -> None:
    question = ask(client)
    time.sleep(0.3)
    client.sendall(framed(answer(question)))


def large(client: socket.socket) -> None:
    query = dns.message.from_wire(ask(client))
    response = dns.message.make_response(query)
    text = f'"{EVERY_BYTE[: 4 * 128]}" "{EVERY_BYTE[4 * 128 :]}" "{"x" * 255}" "{"y" * 255}" "{"z" * 255}"'
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", text))
    client.sendall(framed(response.to_wire()))


def stuttering(client: socket.socket) -> None:
    message = framed(answer(ask(client)))
    for part in (message[:1], message[1:2], message[2:20], message[20:]):
        client.sendall(part)
        time.sleep(0.02)


def other_question(question: bytes) -> bytes:
    query = dns.message.from_wire(question)
    return dns.message.make_response(dns.message.make_query("other.x", "A", id=query.id)).to_wire()


def main() -> None:
    serve_udp(HALF, lambda number, question: answer(question) if number % 2 else None)
    serve_udp(WRONG_ID, lambda _, question: answer(question, id=1))
    serve_udp(OTHER_QUESTION, lambda _, question: other_question(question))
    serve_udp(GARBAGE, lambda _, question: b"not DNS")
    serve_udp(EMPTY, lambda _, question: b"")
    serve_udp(TRUNCATED, lambda _, question: answer(question, flags=dns.flags.TC))
    serve_tcp(CLOSES, lambda client: None)
    serve_tcp(RESETS, reset)
    serve_tcp(MUTE, lambda client: time.sleep(10))
    serve_tcp(SLOW, slowly)
    serve_tcp(LARGE, large)
    serve_tcp(STUTTERS, stuttering)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
