"""How many nodes are connected to, made fit for a thousand of them, over one bastion if need be.

pyinfra tries a connection again for any reason (`ssh_connect_retries`): a port that is closed, or a network that leads
nowhere, would hold its place in the run for minutes. What is worth another try is a connection that sshd has cut off:
it takes a few unauthenticated ones at a time and drops the rest (MaxStartups in sshd_config(5)), a bastion's as well.
"""

from __future__ import annotations

import resource
import time
from functools import wraps
from typing import Any

from paramiko import SSHException, Transport
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.ssh_util import raise_connect_error

#: Nodes at a time: they mostly wait, for the network and for answers that do not come.
PARALLEL = 200
#: Seconds after which a connection on which nothing comes looks whether it is wanted. paramiko's 0.1 wakes a thousand
#: of them ten thousand times a second, a fifth of a core; closing one waits as long.
IDLE = 1.0
#: Files that a run may have open, one for each connection: a shell gives 1024.
FILES = 65536
#: What paramiko says of a server that has hung up before it was greeted.
_HUNG_UP = ("Error reading SSH protocol banner", "No existing session", "Negotiation failed")


def install() -> None:
    """From now on pyinfra connects like this."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    vars_of: Any = Transport
    vars_of._active_check_timeout = IDLE
    connector: Any = SSHConnector
    if not hasattr(connector._connect, "__wrapped__"):
        connector._connect = _final_unless_cut_off(connector._connect)


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
