"""What a run's exit code says."""

from __future__ import annotations

import signal
import sys
from enum import IntEnum

import gevent


class Exit(IntEnum):
    """One meaning each."""

    WELL = 0
    """All is well."""
    NOT_WELL = 1
    """Something failed, was unreachable or is unknown."""
    PENDING = 2
    """Changes are pending (plan only)."""
    INTERRUPTED = 128 + signal.SIGINT
    """Stopped by Ctrl-C, as shells have it (Exit Status in bash(1)): pyinfra itself says 0, and `&&` would go on."""


def install() -> None:
    """From now on Ctrl-C ends a run with `Exit.INTERRUPTED`; its locks are released, and nothing more is begun."""
    signal.signal(signal.SIGINT, _interrupted)


def _interrupted(*_: object) -> None:
    # A second Ctrl-C waits for nobody.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print("stopped by Ctrl-C", file=sys.stderr, flush=True)
    if gevent.getcurrent() is gevent.get_hub().parent:
        # pyinfra's question whether to go on, say, which lets no other greenlet run.
        sys.exit(Exit.INTERRUPTED)
    # Not where this happens to be: a greenlet that holds a connection's lock, perhaps.
    gevent.spawn(sys.exit, Exit.INTERRUPTED)
