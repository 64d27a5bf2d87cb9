"""A run that must not begin: every node that would have to refuse is named at once."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api.exceptions import PyinfraError


def stop_if(refusals: Sequence[str]) -> None:
    """Raise PyinfraError with these sentences ("node-1: ..."), before anything is changed."""
    if refusals:
        others = "Nothing was changed on any node. To go on without such a node: --exclude NODE."
        raise PyinfraError("\n    ".join(["stopped before any change:", *refusals, others]))
