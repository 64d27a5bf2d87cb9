"""Nodes further away than they are: a TCP proxy for each that holds every byte back, and counts them.

    python -m bench.delay --round-trip 50 node-0=198.18.53.10:22 node-1=198.18.53.11:22

The first line on standard output is JSON with each node's port on 127.0.0.1; after each SIGUSR1 comes one with what
went through so far, `Traffic` by node. Bytes are held back for half the round trip in each direction, and a connection
is as late as its handshake over such a line would make it; TCP's slow start is not imitated.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal

_CHUNK = 65536


@dataclass
class Traffic:
    """What went through one proxy: connections, bytes to the node, bytes from it."""

    connections: int = 0
    sent: int = 0
    received: int = 0


class Line:
    """The proxy of one node. `far`: its address and port; `away`: seconds from here to there."""

    def __init__(self, far: tuple[str, int], away: float) -> None:
        self.far, self.away = far, away
        self.traffic = Traffic()

    async def serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Carry one connection until both sides have ended it, or the proxy ends."""
        self.traffic.connections += 1
        with suppress(asyncio.CancelledError):
            await self._serve(near, back)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        # SYN and its answer: only then does the client send. The server accepts on the client's acknowledgement.
        await asyncio.sleep(2 * self.away)
        writer: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        forth = asyncio.ensure_future(self._carry(near, writer, "sent"))
        await asyncio.sleep(self.away)
        try:
            far, there = await asyncio.open_connection(*self.far)
        except OSError:
            forth.cancel()
            back.close()
            return
        writer.set_result(there)
        here: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        here.set_result(back)
        await asyncio.gather(forth, self._carry(far, here, "received"), return_exceptions=True)
        there.close()
        back.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.Future[asyncio.StreamWriter],
        way: Literal["sent", "received"],
    ) -> None:
        """What is read now is written when it would have arrived."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.ensure_future(_arrive(under_way, writer))
        data = b"..."
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""
            setattr(self.traffic, way, getattr(self.traffic, way) + len(data))
            under_way.put_nowait((loop.time() + self.away, data))
        await arriving


async def _arrive(under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.Future[asyncio.StreamWriter]) -> None:
    there, loop = await writer, asyncio.get_running_loop()
    with suppress(OSError):
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                there.write_eof()
                return
            there.write(data)
            await there.drain()


async def run(nodes: dict[str, tuple[str, int]], away: float) -> None:
    """Serve until SIGTERM."""
    lines = {name: Line(far, away) for name, far in nodes.items()}

    def tell() -> None:
        print(json.dumps({name: asdict(line.traffic) for name, line in lines.items()}), flush=True)

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    servers = {name: await asyncio.start_server(line.serve, "127.0.0.1", 0) for name, line in lines.items()}
    print(json.dumps({name: server.sockets[0].getsockname()[1] for name, server in servers.items()}), flush=True)
    await ended.wait()


def main() -> None:
    """Run the proxies of these nodes."""
    parser = argparse.ArgumentParser(prog="python -m bench.delay", description=__doc__.split("\n")[0])
    parser.add_argument("--round-trip", type=float, default=50, metavar="MS")
    parser.add_argument("nodes", nargs="+", metavar="NAME=ADDRESS:PORT")
    arguments = parser.parse_args()
    nodes = {}
    for text in arguments.nodes:
        name, _, far = text.partition("=")
        host, _, port = far.rpartition(":")
        nodes[name] = (host, int(port))
    with suppress(KeyboardInterrupt):
        asyncio.run(run(nodes, arguments.round_trip / 2000))


if __name__ == "__main__":
    main()
