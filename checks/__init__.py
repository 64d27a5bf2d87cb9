"""Judge: one file per check; pure functions from what was read and asked to findings."""
