"""Change: one file per thing that is changed; idempotent pyinfra operations."""
