"""Run: what a person starts, each short enough to read like a runbook."""
