"""Ask one question many times at a fixed rate, with the node's python3.

This file is run there as it stands: `python3 -c`, its standard library, 3.6 or newer (hence the quoted
annotations). Arguments: address, port, questions per second, seconds, seconds to wait for an answer, the question
without its id in hex.

The rate is open-loop: question i is due i/rate after the start, whether or not the ones before it were answered, so
that a slow server cannot slow the asking down and hide its own losses. Every question has a socket, and so a source
port, of its own: conntrack and IPVS see that many clients, not one. What is late is sent at once; what is still
unsent when the time is over stays unsent.
"""

import collections
import errno
import os
import resource
import selectors
import socket
import sys
import time

#: Whatever the arguments say.
MOST_QUESTIONS = 50000
MOST_SECONDS = 60.0
#: Parts of the time that are counted apart: losses that come in bursts make a proportion less certain.
SLICES = 10
#: File descriptors that are left alone: standard streams, the selector.
SPARE = 16
LINE = 150

RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
#: How many could not be sent, and why, are told by these words: the network did not lose them.
LOCAL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EPERM, errno.EADDRNOTAVAIL)


def longest(seconds: float) -> float:
    """How long a sender goes on at most; what a node that is slower has not sent by then stays unsent."""
    return seconds * 1.2 + 1


class Asker:
    """Sends, receives and counts."""

    def __init__(self, address: str, port: int, wait: float, question: bytes) -> None:
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.target = (address, port)
        self.wait = wait
        self.question = question
        self.selector = selectors.DefaultSelector()
        self.flying = collections.OrderedDict()  # type: collections.OrderedDict[int, tuple[socket.socket, bytes, float, int]]
        self.unsent = collections.Counter()  # type: collections.Counter[str]
        self.outcomes = collections.Counter()  # type: collections.Counter[str]
        self.microseconds = []  # type: list[int]
        self.sent = [0] * SLICES
        self.received = [0] * SLICES

    def send(self, part: int) -> None:
        identifier = os.urandom(2)
        try:
            sock = socket.socket(self.family, socket.SOCK_DGRAM)
        except OSError as error:
            self.unsent[str(error.strerror)] += 1
            return
        try:
            sock.setblocking(False)
            # Connected: only its destination can answer it, and an ICMP error comes back as one.
            sock.connect(self.target)
            start = time.monotonic()
            sock.send(identifier + self.question)
        except OSError as error:
            sock.close()
            if error.errno in LOCAL:
                self.unsent[str(error.strerror)] += 1
            else:
                self.sent[part] += 1
                self.outcomes[str(error.strerror)] += 1
            return
        self.sent[part] += 1
        self.selector.register(sock, selectors.EVENT_READ)
        self.flying[sock.fileno()] = (sock, identifier, start, part)

    def take(self, number: int) -> None:
        """Read what has come for the socket with this file descriptor; what answers something else is passed over."""
        sock, identifier, start, part = self.flying[number]
        try:
            answer = sock.recv(65535)
        except BlockingIOError:
            return
        except OSError as error:
            self.outcomes[str(error.strerror)] += 1
            self.drop(number)
            return
        end = time.monotonic()
        echoed = answer[12 : 2 + len(self.question)].lower() == self.question[10:].lower()
        if answer[:2] != identifier or len(answer) < 12 or not answer[2] & 0x80 or not echoed:
            return
        rcode = answer[3] & 15
        name = RCODES[rcode] if rcode < len(RCODES) else f"RCODE{rcode}"
        if name in ("NOERROR", "NXDOMAIN"):
            self.received[part] += 1
            self.microseconds.append(int((end - start) * 1e6))
        else:
            self.outcomes[name] += 1
        self.drop(number)

    def drop(self, number: int) -> None:
        sock = self.flying.pop(number)[0]
        self.selector.unregister(sock)
        sock.close()

    def expire(self, now: float) -> None:
        while self.flying:
            number, oldest = next(iter(self.flying.items()))
            if now < oldest[2] + self.wait:
                return
            self.outcomes["timeout"] += 1
            self.drop(number)

    def run(self, rate: float, seconds: float) -> float:
        """Returns the seconds in which the questions were sent."""
        count = min(MOST_QUESTIONS, int(rate * seconds))
        began = time.monotonic()
        last = began
        following = 0
        while following < count or self.flying:
            now = time.monotonic()
            if now > began + longest(seconds):
                following = count
            while following < count and began + following / rate <= now:
                self.send(following * SLICES // count)
                following += 1
                last = time.monotonic()
                if last - now > 0.01:
                    break
            self.expire(time.monotonic())
            pause = [start + self.wait for _, _, start, _ in list(self.flying.values())[:1]]
            if following < count:
                pause.append(began + following / rate)
            if pause:
                for key, _ in self.selector.select(max(0.0, min(pause) - time.monotonic())):
                    self.take(key.fd)
        return max(last - began, count / rate)


def main(address: str, port: str, rate: str, seconds: str, wait: str, question: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(MOST_QUESTIONS, int(float(rate) * float(wait) * 1.2)) + SPARE * 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(hard, wanted), hard))
    asker = Asker(address, int(port), float(wait), bytes.fromhex(question))
    took = asker.run(float(rate), min(MOST_SECONDS, float(seconds)))
    print(f"@blast took {took:.6f}")
    print("@blast sent " + " ".join(map(str, asker.sent)))
    print("@blast received " + " ".join(map(str, asker.received)))
    for kind, counted in (("unsent", asker.unsent), ("outcome", asker.outcomes)):
        for text, times in sorted(counted.items()):
            print(f"@blast {kind} {times} {text}")
    for at in range(0, len(asker.microseconds), LINE):
        print("@blast us " + " ".join(map(str, asker.microseconds[at : at + LINE])))
    print("@blast end")


if __name__ == "__main__":
    main(*sys.argv[1:])
