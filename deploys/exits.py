"""What a run's exit code says."""

from enum import IntEnum


class Exit(IntEnum):
    """One meaning each."""

    WELL = 0
    """All is well."""
    NOT_WELL = 1
    """Something failed, was unreachable or is unknown."""
    PENDING = 2
    """Changes are pending (plan only)."""
