"""What a run works out once, however many of its hosts come for it at the same time."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from gevent.lock import RLock
from pyinfra.api.state import State

T = TypeVar("T")


def once(make: Callable[[State], T]) -> Callable[[State], T]:
    """
    The function, called once per run and remembered; whoever comes meanwhile waits for it.

    pyinfra runs a deploy for all hosts at once. What raises is not remembered: each host says it for itself.
    """
    made: dict[State, T] = {}
    making = RLock()

    @wraps(make)
    def of(state: State) -> T:
        with making:
            if state not in made:
                made[state] = make(state)
            return made[state]

    return of
