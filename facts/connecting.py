"""How many nodes are connected to, made fit for a thousand of them, over one bastion if need be.

pyinfra tries a connection again for any reason (`ssh_connect_retries`): a port that is closed, or a network that leads
nowhere, would hold its place in the run for minutes. What is worth another try is a connection that sshd has cut off:
it takes a few unauthenticated ones at a time and drops the rest (MaxStartups in sshd_config(5)), a bastion's as well.
"""

from __future__ import annotations

import resource
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

from paramiko import Message, SSHException, Transport
from paramiko.common import cMSG_GLOBAL_REQUEST
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.ssh_util import raise_connect_error
from pyinfra.connectors.sshuserclient.client import SSHClient

#: Nodes at a time: they mostly wait, for the network and for answers that do not come.
PARALLEL = 200
#: Seconds after which a connection on which nothing comes looks whether it is wanted. paramiko's 0.1 wakes a thousand
#: of them ten thousand times a second, a fifth of a core; closing one waits as long.
IDLE = 1.0
#: Seconds after which a node that says nothing at all is lost: one whose power is cut closes no connection, and pyinfra
#: would wait for its answer for ever, with all other nodes locked. A cable that is out for less loses nothing.
SILENT = 60
#: Seconds between two signs of life.
SIGN = 15
#: Files that a run may have open, one for each connection: a shell gives 1024.
FILES = 65536
#: What macOS allows whatever it says: OPEN_MAX in its sys/syslimits.h.
_FILES_ON_MACOS = 10240
#: What paramiko says of a server that has hung up before it was greeted.
_HUNG_UP = ("Error reading SSH protocol banner", "No existing session", "Negotiation failed")


def install() -> None:
    """From now on pyinfra connects like this."""
    _allow_files()
    vars_of: Any = Transport
    vars_of._active_check_timeout = IDLE
    connector: Any = SSHConnector
    if not hasattr(connector._connect, "__wrapped__"):
        connector._connect = _final_unless_cut_off(connector._connect)
        client: Any = SSHClient
        client.connect = _with_signs_of_life(client.connect)


def _allow_files() -> None:
    """As many as the system allows. A few nodes need no more than there are, so that nothing fails here."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (FILES, _FILES_ON_MACOS):
        files = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        if soft == resource.RLIM_INFINITY or soft >= files:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        except (ValueError, OSError):
            # macOS says that there is no limit, and refuses what is above kern.maxfilesperproc.
            continue
        return


def cut_off(error: BaseException) -> bool:
    """Whether the server has hung up before anybody was known to it."""
    if isinstance(error, EOFError | ConnectionResetError | BrokenPipeError):
        return True
    return isinstance(error, SSHException) and str(error).startswith(_HUNG_UP)


def _final_unless_cut_off(connect: Any) -> Any:
    @wraps(connect)
    def once(self: SSHConnector) -> None:
        began = time.monotonic()
        try:
            connect(self)
        except (OSError, SSHException, EOFError) as error:
            waited = time.monotonic() - began >= self.state.config.CONNECT_TIMEOUT
            if cut_off(error) and not waited:
                raise
            raise_connect_error(self.host, "Could not connect", "no answer in time" if waited else error)

    return once


def _with_signs_of_life(connect: Any) -> Any:
    """For nodes and bastions alike: a connection to one that does not answer is ended, and what waits for it fails.

    By tcp(7) where it is a connection of our own; a node behind a bastion is on the bastion's, whose kernel takes some
    15 minutes to notice (tcp_retries2). So each has to answer in SSH, too.
    """

    @wraps(connect)
    def connected(self: SSHClient, *args: Any, **arguments: Any) -> None:
        connect(self, *args, **arguments)
        transport: Any = self.get_transport()
        transport.packetizer.set_keepalive(SIGN, _asking(transport))
        # A channel of a bastion's has no options of its own; elsewhere than on Linux they are called otherwise.
        if sys.platform == "linux" and hasattr(transport.sock, "setsockopt"):
            for level, option, value in (
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SIGN),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SIGN),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT // SIGN - 1),
                # What is sent and not acknowledged: keepalive's counting stops meanwhile.
                (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT * 1000),
            ):
                transport.sock.setsockopt(level, option, value)

    return connected


def _asking(transport: Any) -> Callable[[], None]:
    """What paramiko's reader calls each `SIGN` seconds in which nothing was sent, and only when nothing has come.

    paramiko's own keepalive asks for no answer. Any server has to give one, to a request that it does not know as well
    (RFC 4254, section 4); ssh_config(5) has this as ServerAliveInterval and ServerAliveCountMax. EOFError in the
    reader is what paramiko takes for a connection that has ended.
    """
    silent = 0
    # The reader holds what it calls: without this a client that nobody holds any more would never be closed.
    reader: Any = weakref.proxy(transport)
    reader.completion_event = None

    def ask() -> None:
        nonlocal silent
        asked = reader.completion_event
        silent = silent + 1 if asked is not None and not asked.is_set() else 0
        if silent >= SILENT // SIGN:
            raise EOFError
        # Set by the answer, whichever it is.
        reader.completion_event = threading.Event()
        request = Message()
        request.add_byte(cMSG_GLOBAL_REQUEST)
        request.add_string("keepalive@openssh.com")
        request.add_boolean(True)
        reader._send_user_message(request)

    return ask
