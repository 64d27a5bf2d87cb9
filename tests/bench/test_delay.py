"""The delaying proxy: everything arrives, both ways, and is counted."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from bench.delay import Line, Traffic

ROOT = Path(__file__).resolve().parent.parent.parent


async def _echoed(far: tuple[str, int], sent: bytes, away: float) -> tuple[bytes, Traffic]:
    line = Line(far, away)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(sent)
    writer.write_eof()
    said = await reader.read()
    writer.close()
    server.close()
    return said, line.traffic


def test_all_bytes_arrive_both_ways_and_each_side_can_end_first() -> None:
    async def run() -> tuple[bytes, Traffic]:
        async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            writer.write_eof()

        far = await asyncio.start_server(upper, "127.0.0.1", 0)
        try:
            return await _echoed(far.sockets[0].getsockname(), b"snapshot" * 50_000, 0.01)
        finally:
            far.close()

    said, traffic = asyncio.run(run())
    assert said == b"SNAPSHOT" * 50_000
    assert traffic == Traffic(connections=1, sent=400_000, received=400_000)


def test_a_byte_is_not_there_before_its_time() -> None:
    """By the loop's own clock, so that a busy machine can only make it later."""

    async def run() -> float:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0")
            writer.close()

        far = await asyncio.start_server(greet, "127.0.0.1", 0)
        began = asyncio.get_running_loop().time()
        await _echoed(far.sockets[0].getsockname(), b"", 0.05)
        ended = asyncio.get_running_loop().time()
        far.close()
        return ended - began

    # Connecting takes one and a half round trips until the server sends, and its bytes half of one.
    assert asyncio.run(run()) >= 4 * 0.05


def test_a_node_that_refuses_is_a_connection_that_ends() -> None:
    async def run() -> tuple[bytes, Traffic]:
        closed = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        far = closed.sockets[0].getsockname()
        closed.close()
        await closed.wait_closed()
        return await _echoed(far, b"x", 0.0)

    said, traffic = asyncio.run(run())
    assert said == b""
    assert traffic.connections == 1


def test_as_a_program_it_says_its_ports_and_then_what_it_counted() -> None:
    argv = [sys.executable, "-m", "bench.delay", "--round-trip", "0", "node-0=127.0.0.1:9", "node-1=127.0.0.1:9"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGUSR1)
        counted = json.loads(process.stdout.readline())
        process.terminate()
    assert list(ports) == ["node-0", "node-1"] and len(set(ports.values())) == 2
    assert counted["node-1"] == {"connections": 0, "sent": 0, "received": 0}
