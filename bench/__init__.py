"""Measure: how long things take, side by side. Never a test."""
