"""A run that must not begin: every node that would have to refuse is named at once."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api.exceptions import PyinfraError


def stop_if(refusals: Sequence[str]) -> None:
    """Raise PyinfraError with these sentences ("node-1: ..."), before anything is changed."""
    if refusals:
        others = "Nothing was changed on any node. To go on without such a node: --exclude NODE."
        raise PyinfraError("\n    ".join(["stopped before any change:", *refusals, others]))


def stop_for(reason: str) -> None:
    """Raise PyinfraError with this sentence, which is about no single node, before anything is changed; not for ""."""
    if reason:
        raise PyinfraError(f"stopped before any change: {reason}. Nothing was changed on any node.")


#: What changes nodes wave by wave.
_IN_WAVES = ("fix_dns.py", "onboard.py", "prevent.py", "undo.py")


def stop_if_out_of_order(argv: Sequence[str]) -> None:
    """Raise PyinfraError for what keeps pyinfra from going wave by wave, before anything is connected to.

    With `--no-wait` no host waits for another at a gate, and one that fails ends nothing (`_run_no_wait_ops` in
    pyinfra/api/operations.py, 3.10); with `--serial` hosts come in the inventory's order, `last_nodes` among them.
    """
    given = [flag for flag in ("--no-wait", "--serial") if flag in argv]
    deploys = [argument for argument in argv if argument.endswith(_IN_WAVES)]
    if given and deploys:
        raise PyinfraError(
            f"{given[0]}: {deploys[0]} changes nodes wave by wave, the canary first, and pyinfra would not keep to "
            "that order. Leave it out; fewer nodes at once: wave_nodes, or --parallel. Nothing was changed on any node."
        )
