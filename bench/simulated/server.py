"""The SSH server of the simulated fleet: `python -m bench.simulated.server --hosts 1000 --port 2222`.

One process, for which 127.64.x.y is node 256 * x + y. Which of them are what is the same in every run of the same
arguments: `bench.simulated.fleet` lays it down. The processor time that it takes is printed as JSON when it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import asyncssh

from bench.simulated import fleet
from bench.simulated.node import Node

#: What pyinfra puts around a script: `sudo -H -n sh -c '...'`.
_QUOTE = "'\"'\"'"


class _Server(asyncssh.SSHServer):
    """Anybody may come in: what a client pays for a key is the same, and the server's own share is not of interest."""

    strangers: ClassVar[set[_Server]] = set()

    def __init__(self, startups: int) -> None:
        self.startups = startups

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.strangers.add(self)
        if self.startups and len(self.strangers) > self.startups:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.strangers.discard(self)

    def begin_auth(self, username: str) -> bool:
        self.strangers.discard(self)
        return False


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    fleet.arguments(parser)
    asyncio.run(_serve(fleet.Plan(**vars(parser.parse_args()))))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "rss_kib": used.ru_maxrss}), flush=True)


async def _serve(plan: fleet.Plan) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def process(process: asyncssh.SSHServerProcess[str]) -> None:
        address = process.get_extra_info("sockname")[0]
        number = fleet.number(address)
        script = _script(process.command or "")
        await asyncio.sleep(plan.slow_seconds if plan.is_slow(number) else plan.delay)
        process.stdout.write(Node(number, plan.is_incident(number)).answer(script))
        process.exit(0)

    options: dict[str, Any] = {
        "server_host_keys": [asyncssh.import_private_key(plan.key.read_bytes())],
        "server_factory": lambda: _Server(plan.startups),
        "process_factory": process,
        "line_editor": False,
        "login_timeout": 120,
    }
    with _listening(plan.port) as answering, _listening(plan.port + 1), _full(plan.port + 2):
        async with asyncssh.listen(sock=answering, **options):
            print("ready", flush=True)
            await ended.wait()


def _script(command: str) -> str:
    """The script inside of `sudo ... sh -c '...'`; shlex takes too long for a hundred kilobytes."""
    start = command.find(" -c '")
    return command[start + 5 : -1].replace(_QUOTE, "'") if start >= 0 else command


def _listening(port: int, backlog: int = 4096) -> socket.socket:
    """A port on every address of the loopback interface, and of no other one. Who never accepts seems to hang."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listener.bind(("0.0.0.0", port))
    listener.listen(backlog)
    return listener


@contextmanager
def _full(port: int) -> Iterator[None]:
    """A port whose queue is full: the kernel drops each SYN, as a network does that leads nowhere (listen(2))."""
    with _listening(port, backlog=0), ExitStack() as fillers:
        while True:
            filler = fillers.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield


if __name__ == "__main__":
    main()
