"""A recording of somebody else's, judged again: whatever it holds, the answer is a diagnosis or one sentence."""

from __future__ import annotations

from pyinfra.api.exceptions import PyinfraError

from checks.diagnosis import Diagnosis
from deploys import cases
from deploys.bundle import Recorded
from reports import plain


def judged(seen: Recorded, where: str) -> Diagnosis:
    """As `deploys.cases.judged`. Raises PyinfraError where the recording holds what no node of ours has said.

    + where: the bundle, for the sentence
    """
    try:
        return cases.judged(seen)
    except Exception as error:  # Types were checked; what an address or a number means was not.
        why = plain.line(f"{type(error).__name__}: {error}", 200)
        raise PyinfraError(f"the bundle cannot be replayed: {where}: cannot be judged: {why}") from error
