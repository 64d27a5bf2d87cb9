"""Capture with the node's python3, where it has no tcpdump.

This file is run there as it stands: `python3 -c`, its standard library, 3.6 or newer (hence the quoted annotations). It
writes a pcap file to its standard output and says what tcpdump says on standard error. Arguments: interface, packets at
most, bytes of each, the address that every packet must have or "", the questions (name, type, class) in hex, the ports.

A packet is taken if it holds one of the questions, or if it is short and one of the ports is in its head: the beginning
and the end of a TCP connection, an ICMP error. That may take too much, which the reader passes over; a kernel's filter
would need a program for each kind of tunnel. Sources: packet(7), if_arp.h.
"""

import os
import signal
import socket
import struct
import sys
import time

ETH_P_ALL = 3
SOL_PACKET, PACKET_STATISTICS = 263, 6
#: Ethernet and loopback; anything else that a node has (tun, ipip, sit) gives raw IP.
ETHERNET = (1, 772)
HEAD = 100


def stop(*_: object) -> None:
    raise SystemExit


def wanted(data: bytes, host: bytes, questions: "list[bytes]", ports: "list[bytes]") -> bool:
    """Whether a packet may belong to a question, or to an error about one."""
    head = data[:HEAD]
    if host and host not in head:
        return False
    if len(data) <= HEAD and any(port in head for port in ports):
        return True
    lowered = data.lower()
    return any(question in lowered for question in questions)


def main(interface: str, most: int, snap: int, host: bytes, questions: "list[bytes]", ports: "list[bytes]") -> None:
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sniffer.bind((interface, ETH_P_ALL))
    link = 1 if sniffer.getsockname()[3] in ETHERNET else 101
    signal.signal(signal.SIGTERM, stop)
    os.write(1, struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap, link))
    print("listening on " + interface, file=sys.stderr, flush=True)
    taken = 0
    try:
        while taken < most:
            data = sniffer.recv(65535)
            if wanted(data, host, questions, ports):
                now, cut = time.time(), data[:snap]
                os.write(1, struct.pack("=IIII", int(now), int(now % 1 * 1e6), len(cut), len(data)) + cut)
                taken += 1
    finally:
        dropped = struct.unpack("II", sniffer.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        print(f"{taken} packets captured", file=sys.stderr)
        print(f"{dropped} packets dropped by kernel", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        bytes.fromhex(sys.argv[4]),
        [bytes.fromhex(question).lower() for question in sys.argv[5].split(",")],
        [int(port).to_bytes(2, "big") for port in sys.argv[6].split(",")],
    )
